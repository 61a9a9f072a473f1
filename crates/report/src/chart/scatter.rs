//! Quality against cost: points on two axes and the front that no other point beats.

use super::scale::Scale;
use super::{Share, anchor, at, drawing, vertical};
use crate::format::Shown;
use crate::html::Html;

/// Height of the drawing area, in pixels; the style sheet holds the same number.
const HEIGHT: f64 = 340.0;

/// Width for which labels are arranged, in pixels; narrower pages hide the labels off the front.
const WIDTH: f64 = 640.0;

/// Mean width of a letter and height of a line, in pixels.
const LETTER: (f64, f64) = (7.0, 15.0);

/// One point.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// Name.
    pub(crate) label: String,
    /// Cost, in the unit of the axis; positive.
    pub(crate) cost: f64,
    /// Quality; higher is better.
    pub(crate) quality: f64,
    /// Interval of the quality.
    pub(crate) interval: Option<(f64, f64)>,
}

/// The plot.
#[derive(Clone, Debug)]
pub(crate) struct Scatter {
    /// Name of the horizontal axis.
    pub(crate) cost_title: String,
    /// Name of the vertical axis.
    pub(crate) quality_title: String,
    /// How costs are written.
    pub(crate) cost_shown: Shown,
    /// How qualities are written.
    pub(crate) quality_shown: Shown,
    /// A quality worth a line, such as that of chance.
    pub(crate) reference: Option<f64>,
    /// Points.
    pub(crate) points: Vec<Point>,
}

/// Indices of the points that no other point beats at the same or lower cost, by cost.
pub(crate) fn front(points: &[Point]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&points[*a], &points[*b]);
        a.cost
            .total_cmp(&b.cost)
            .then(b.quality.total_cmp(&a.quality))
            .then_with(|| a.label.cmp(&b.label))
    });
    let mut best = f64::NEG_INFINITY;
    order.retain(|index| {
        let is_better = points[*index].quality > best;
        best = best.max(points[*index].quality);
        is_better
    });
    order
}

impl Scatter {
    /// Draws the plot; nothing without points.
    pub(crate) fn draw(&self) -> Html {
        let mut html = Html::new();
        if self.points.is_empty() {
            return html;
        }
        let horizontal = Scale::logarithmic(self.points.iter().map(|point| point.cost), |cost| {
            self.cost_shown.of(cost)
        });
        let vertical_scale = Scale::linear(
            self.points
                .iter()
                .flat_map(|point| {
                    let (low, high) = point.interval.unwrap_or((point.quality, point.quality));
                    [low, point.quality, high]
                })
                .chain(self.reference),
        );
        let places = self.places(&horizontal, &vertical_scale);
        let front = front(&self.points);
        let names: Vec<&str> = front
            .iter()
            .map(|index| self.points[*index].label.as_str())
            .collect();
        let title = format!("{} against {}", self.quality_title, self.cost_title);
        let description = format!(
            "{} points; on the front, from cheap to costly: {}",
            self.points.len(),
            names.join(", ")
        );
        html.element("div", &[("class", &"scatter")], |html| {
            html.leaf("div", &[("class", &"axis-title")], &self.quality_title);
            html.element(
                "svg",
                &[("class", &"ticks"), ("aria-hidden", &"true")],
                |svg| {
                    for (place, text) in vertical_scale.ticks() {
                        svg.leaf(
                            "text",
                            &[("x", &"0"), ("y", &pixels(*place)), ("dy", &"4")],
                            text,
                        );
                    }
                },
            );
            drawing(html, "plane", &title, &description, |svg| {
                self.draw_grid(svg, &horizontal, &vertical_scale);
                Self::draw_front(svg, &corners(&front, &places));
                let labels = arrange(&self.points, &places, &front);
                for (index, point) in self.points.iter().enumerate() {
                    let is_front = front.contains(&index);
                    let class = if is_front { "point best" } else { "point" };
                    svg.element("g", &[("class", &class)], |svg| {
                        self.draw_point(svg, point, places[index], labels[index], &vertical_scale);
                    });
                }
            });
            html.leaf("div", &[("class", &"axis-title below")], &self.cost_title);
        });
        html
    }

    fn draw_grid(&self, svg: &mut Html, horizontal: &Scale, vertical_scale: &Scale) {
        let levels = vertical_scale
            .ticks()
            .iter()
            .map(|(place, _)| ("grid", *place));
        let reference = self
            .reference
            .map(|reference| ("reference", vertical_scale.place(reference)));
        for (class, place) in levels.chain(reference) {
            svg.element(
                "line",
                &[
                    ("class", &class),
                    ("x1", &"0"),
                    ("x2", &"100%"),
                    ("y1", &pixels(place)),
                    ("y2", &pixels(place)),
                ],
                |_| {},
            );
        }
        for (place, text) in horizontal.ticks() {
            let x = inset(*place);
            vertical(svg, "grid", x);
            svg.leaf(
                "text",
                &[
                    ("x", &Share(x)),
                    ("y", &(HEIGHT + 18.0)),
                    ("text-anchor", &anchor(x)),
                ],
                text,
            );
        }
    }

    /// Places of all points: shares of the width and pixels from the top.
    fn places(&self, horizontal: &Scale, vertical: &Scale) -> Vec<(f64, f64)> {
        self.points
            .iter()
            .map(|point| {
                (
                    inset(horizontal.place(point.cost)),
                    pixels(vertical.place(point.quality)),
                )
            })
            .collect()
    }

    fn draw_front(svg: &mut Html, corners: &[(f64, f64)]) {
        for pair in corners.windows(2) {
            svg.element(
                "line",
                &[
                    ("class", &"front"),
                    ("x1", &Share(pair[0].0)),
                    ("y1", &pair[0].1),
                    ("x2", &Share(pair[1].0)),
                    ("y2", &pair[1].1),
                ],
                |_| {},
            );
        }
    }

    fn draw_point(
        &self,
        svg: &mut Html,
        point: &Point,
        (x, y): (f64, f64),
        label: Option<Label>,
        vertical: &Scale,
    ) {
        svg.leaf(
            "title",
            &[],
            format!(
                "{}: {} at {}",
                point.label,
                self.quality_shown.of(point.quality),
                self.cost_shown.of(point.cost)
            ),
        );
        if let Some((low, high)) = point.interval {
            svg.element(
                "line",
                &[
                    ("class", &"interval"),
                    ("x1", &Share(x)),
                    ("x2", &Share(x)),
                    ("y1", &pixels(vertical.place(low))),
                    ("y2", &pixels(vertical.place(high))),
                ],
                |_| {},
            );
        }
        at(svg, x, 0.0, |svg| {
            svg.element(
                "circle",
                &[("class", &"dot"), ("r", &"5"), ("cy", &y)],
                |_| {},
            );
            if let Some(label) = label {
                svg.leaf(
                    "text",
                    &[
                        ("x", &label.dx),
                        ("y", &(y + label.dy)),
                        ("text-anchor", &label.anchor),
                    ],
                    &point.label,
                );
            }
        });
    }
}

/// Corners of the line through the front: the best that can be had stays the same until the next
/// point is affordable.
fn corners(front: &[usize], places: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for index in front {
        let (x, y) = places[*index];
        if let Some((_, before)) = corners.last().copied() {
            corners.push((x, before));
        }
        corners.push((x, y));
    }
    if let Some((_, y)) = corners.last().copied() {
        corners.push((1.0, y));
    }
    corners
}

/// Keeps points off the left and right edge.
fn inset(place: f64) -> f64 {
    0.02 + 0.96 * place
}

fn pixels(place: f64) -> f64 {
    // Tenths of a pixel are enough and keep the file small.
    libm::round((1.0 - place) * HEIGHT * 10.0) / 10.0
}

#[derive(Clone, Copy, Debug)]
struct Label {
    dx: f64,
    dy: f64,
    anchor: &'static str,
}

/// Finds a place for each label that covers no dot, no earlier label and not the front, points
/// of the front first; `None` where there is none (the point's title and the table still name it).
fn arrange(points: &[Point], places: &[(f64, f64)], front: &[usize]) -> Vec<Option<Label>> {
    const CANDIDATES: [Label; 6] = [
        Label {
            dx: 9.0,
            dy: 4.0,
            anchor: "start",
        },
        Label {
            dx: -9.0,
            dy: 4.0,
            anchor: "end",
        },
        Label {
            dx: -4.0,
            dy: -9.0,
            anchor: "end",
        },
        Label {
            dx: 5.0,
            dy: -9.0,
            anchor: "start",
        },
        Label {
            dx: 5.0,
            dy: 18.0,
            anchor: "start",
        },
        Label {
            dx: -5.0,
            dy: 18.0,
            anchor: "end",
        },
    ];
    let mut taken: Vec<[f64; 4]> = places
        .iter()
        .map(|(x, y)| {
            let (x, y) = (x * WIDTH, *y);
            [x - 6.0, y - 6.0, x + 6.0, y + 6.0]
        })
        .collect();
    let line = corners(front, places);
    taken.extend(line.windows(2).map(|pair| {
        let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
        [
            x1 * WIDTH,
            y1.min(y2) - 1.0,
            x2 * WIDTH + 1.0,
            y1.max(y2) + 1.0,
        ]
    }));
    let mut labels = vec![None; points.len()];
    let rest = (0..points.len()).filter(|index| !front.contains(index));
    for index in front.iter().copied().chain(rest) {
        let (x, y) = (places[index].0 * WIDTH, places[index].1);
        let width = LETTER.0 * points[index].label.chars().count() as f64;
        let found = CANDIDATES.into_iter().find_map(|label| {
            let left = if label.anchor == "start" {
                x + label.dx
            } else {
                x + label.dx - width
            };
            let bottom = y + label.dy + 3.0;
            let area = [left, bottom - LETTER.1, left + width, bottom];
            let is_inside = area[0] >= 0.0 && area[2] <= WIDTH && area[1] >= -12.0;
            let is_free = taken.iter().all(|other| {
                area[2] <= other[0]
                    || other[2] <= area[0]
                    || area[3] <= other[1]
                    || other[3] <= area[1]
            });
            (is_inside && is_free).then_some((label, area))
        });
        if let Some((label, area)) = found {
            taken.push(area);
            labels[index] = Some(label);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(label: &str, cost: f64, quality: f64) -> Point {
        Point {
            label: label.to_owned(),
            cost,
            quality,
            interval: None,
        }
    }

    #[test]
    fn the_front_holds_what_nothing_cheaper_matches() {
        let points = [
            point("dear", 100.0, 0.9),
            point("cheap", 1.0, 0.6),
            point("beaten", 50.0, 0.6),
            point("middle", 10.0, 0.8),
            point("same cost, worse", 10.0, 0.7),
        ];
        assert_eq!(front(&points), [1, 3, 0]);
        assert!(front(&[]).is_empty());
    }

    #[test]
    fn labels_of_crowded_points_do_not_overlap() {
        let points: Vec<Point> = (0..30)
            .map(|n| point(&format!("method number {n}"), 5.0, 0.7))
            .collect();
        let places = vec![(0.5, 150.0); 30];
        let labels = arrange(&points, &places, &[0]);
        assert!(labels[0].is_some());
        assert!(labels.iter().flatten().count() <= 6);
    }
}
