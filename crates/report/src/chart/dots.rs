//! Values with their intervals, a row each, on one axis: the plot for comparisons.

use super::scale::Scale;
use super::{Share, anchor, at, drawing, vertical};
use crate::html::Html;

/// How a row stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// An ordinary row.
    Plain,
    /// The best of those that compete.
    Best,
    /// The one that was chosen without a look at what is plotted.
    Chosen,
    /// An upper bound that cannot be had in practice: a diamond.
    Bound,
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct DotRow {
    /// Name.
    pub(crate) label: String,
    /// A word about it, muted.
    pub(crate) note: String,
    /// The value.
    pub(crate) value: f64,
    /// Its interval.
    pub(crate) interval: Option<(f64, f64)>,
    /// How it stands out.
    pub(crate) mark: Mark,
    /// Whether it is a baseline: an open dot.
    pub(crate) is_baseline: bool,
}

/// A value worth a line of its own over all rows.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    /// Where.
    pub(crate) value: f64,
    /// What it is.
    pub(crate) label: &'static str,
}

/// A range worth a shade over all rows.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    /// Lower end.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// The plot.
#[derive(Clone, Debug)]
pub(crate) struct Dots {
    /// What is plotted, for the axis and for those who cannot see it.
    pub(crate) title: String,
    /// Rows from top to bottom.
    pub(crate) rows: Vec<DotRow>,
    /// A line over all rows.
    pub(crate) reference: Option<Reference>,
    /// A shade over all rows.
    pub(crate) band: Option<Band>,
    /// Whether a stem joins each dot with the reference.
    pub(crate) has_stems: bool,
    /// How values are written.
    pub(crate) shown: crate::format::Shown,
}

impl Dots {
    fn scale(&self) -> Scale {
        let ends = self.rows.iter().flat_map(|row| {
            let (low, high) = row.interval.unwrap_or((row.value, row.value));
            [row.value, low, high]
        });
        Scale::linear(ends.chain(self.reference.iter().map(|reference| reference.value)))
    }

    /// Draws the plot; nothing without rows.
    pub(crate) fn draw(&self) -> Html {
        let mut html = Html::new();
        if self.rows.is_empty() {
            return html;
        }
        let scale = self.scale();
        html.element("div", &[("class", &"dots"), ("role", &"list")], |html| {
            for row in &self.rows {
                self.draw_row(html, row, &scale);
            }
            self.draw_axis(html, &scale);
        });
        html
    }

    fn draw_row(&self, html: &mut Html, row: &DotRow, scale: &Scale) {
        let class = match row.mark {
            Mark::Plain => "row",
            Mark::Best | Mark::Chosen => "row best",
            Mark::Bound => "row bound",
        };
        html.element("div", &[("class", &class), ("role", &"listitem")], |html| {
            html.element("div", &[("class", &"label")], |html| {
                html.text(&row.label);
                let tag = match row.mark {
                    Mark::Best => Some("best"),
                    Mark::Chosen => Some("chosen"),
                    Mark::Plain | Mark::Bound => None,
                };
                if let Some(tag) = tag {
                    html.text(" ");
                    html.leaf("span", &[("class", &"tag")], tag);
                }
                if !row.note.is_empty() {
                    html.element("span", &[("class", &"note")], |html| {
                        html.prose(&row.note);
                    });
                }
            });
            let value = self.shown.of(row.value);
            let interval = row
                .interval
                .map(|(low, high)| self.shown.interval(low, high));
            let name = format!("{}: {value}", row.label);
            let description = interval
                .as_ref()
                .map_or_else(String::new, |text| format!("95 % interval {text}"));
            html.element("div", &[("class", &"plot")], |html| {
                drawing(html, "track", &name, &description, |svg| {
                    self.draw_marks(svg, row, scale);
                });
            });
            html.element("div", &[("class", &"value")], |html| {
                html.leaf("span", &[("class", &"v")], &value);
                if let Some(interval) = &interval {
                    html.text(" ");
                    html.leaf("span", &[("class", &"ci")], interval);
                }
            });
        });
    }

    fn draw_marks(&self, svg: &mut Html, row: &DotRow, scale: &Scale) {
        if let Some(band) = &self.band {
            let (low, high) = (scale.place(band.low), scale.place(band.high));
            svg.element(
                "rect",
                &[
                    ("class", &"band"),
                    ("x", &Share(low)),
                    ("width", &Share(high - low)),
                    ("y", &"0"),
                    ("height", &"100%"),
                ],
                |_| {},
            );
        }
        for (place, _) in scale.ticks() {
            vertical(svg, "grid", *place);
        }
        let place = scale.place(row.value);
        if let Some(reference) = &self.reference {
            let origin = scale.place(reference.value);
            vertical(svg, "reference", origin);
            if self.has_stems {
                horizontal(svg, "stem", origin, place);
            }
        }
        if let Some((low, high)) = row.interval {
            horizontal(svg, "interval", scale.place(low), scale.place(high));
        }
        at(svg, place, 0.5, |svg| {
            if row.mark == Mark::Bound {
                svg.element(
                    "path",
                    &[("class", &"dot"), ("d", &"M0-6.5L6.5 0L0 6.5L-6.5 0Z")],
                    |_| {},
                );
            } else {
                let class = if row.is_baseline { "dot open" } else { "dot" };
                svg.element("circle", &[("class", &class), ("r", &"5")], |_| {});
            }
        });
    }

    fn draw_axis(&self, html: &mut Html, scale: &Scale) {
        html.element(
            "div",
            &[("class", &"row axis"), ("aria-hidden", &"true")],
            |html| {
                html.leaf("div", &[("class", &"label")], "");
                html.element("svg", &[("class", &"plot")], |svg| {
                    let origin = self
                        .reference
                        .as_ref()
                        .map(|reference| (scale.place(reference.value), reference.label));
                    for (place, text) in scale.ticks() {
                        svg.leaf(
                            "text",
                            &[
                                ("x", &Share(*place)),
                                ("y", &"14"),
                                ("text-anchor", &anchor(*place)),
                            ],
                            text,
                        );
                    }
                    if let Some((place, label)) = origin.filter(|(_, label)| !label.is_empty()) {
                        svg.leaf(
                            "text",
                            &[
                                ("class", &"name"),
                                ("x", &Share(place)),
                                ("y", &"31"),
                                ("text-anchor", &anchor_of_name(place)),
                            ],
                            label,
                        );
                    }
                });
                html.leaf("div", &[("class", &"value")], &self.title);
            },
        );
    }
}

fn anchor_of_name(place: f64) -> &'static str {
    if place < 0.15 {
        "start"
    } else if place > 0.85 {
        "end"
    } else {
        "middle"
    }
}

fn horizontal(svg: &mut Html, class: &str, from: f64, to: f64) {
    svg.element(
        "line",
        &[
            ("class", &class),
            ("x1", &Share(from)),
            ("x2", &Share(to)),
            ("y1", &"50%"),
            ("y2", &"50%"),
        ],
        |_| {},
    );
}
