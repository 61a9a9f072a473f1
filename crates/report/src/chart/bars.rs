//! Bars: rows through the cleaning steps, and shares of one.

use super::{Share, drawing};
use crate::format;
use crate::html::Html;

/// One cleaning step of the waterfall.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Name.
    pub(crate) name: String,
    /// Why, in one sentence.
    pub(crate) note: String,
    /// Rows before.
    pub(crate) rows_in: u64,
    /// Rows after.
    pub(crate) rows_out: u64,
    /// Whether it looked at later rows.
    pub(crate) uses_future: bool,
}

/// Rows left and lost by step; nothing without steps.
pub(crate) fn steps(steps: &[Step]) -> Html {
    let mut html = Html::new();
    let most = steps
        .iter()
        .map(|step| step.rows_in.max(step.rows_out))
        .max()
        .unwrap_or(0);
    if steps.is_empty() {
        return html;
    }
    let share = |n: u64| {
        if most == 0 {
            0.0
        } else {
            n as f64 / most as f64
        }
    };
    html.element(
        "div",
        &[("class", &"dots steps"), ("role", &"list")],
        |html| {
            for step in steps {
                html.element("div", &[("class", &"row"), ("role", &"listitem")], |html| {
                    html.element("div", &[("class", &"label")], |html| {
                        html.text(&step.name);
                        if step.uses_future {
                            html.text(" ");
                            html.leaf("span", &[("class", &"tag warn")], "uses the future");
                        }
                        if !step.note.is_empty() {
                            html.element("span", &[("class", &"note")], |html| {
                                html.prose(&step.note);
                            });
                        }
                    });
                    let lost = step.rows_in.saturating_sub(step.rows_out);
                    let name = format!(
                        "{}: {} in, {} out",
                        step.name,
                        format::count(step.rows_in),
                        format::count(step.rows_out)
                    );
                    html.element("div", &[("class", &"plot")], |html| {
                        drawing(html, "track", &name, "", |svg| {
                            bar(svg, "kept", 0.0, share(step.rows_out.min(step.rows_in)));
                            bar(svg, "lost", share(step.rows_out), share(lost));
                        });
                    });
                    html.element("div", &[("class", &"value")], |html| {
                        html.leaf("span", &[("class", &"v")], format::count(step.rows_out));
                        let change = if lost > 0 {
                            format!(
                                "−{} ({})",
                                format::count(lost),
                                format::percent(lost as f64 / step.rows_in as f64)
                            )
                        } else if step.rows_out > step.rows_in {
                            format!("+{}", format::count(step.rows_out - step.rows_in))
                        } else {
                            "none lost".to_owned()
                        };
                        html.text(" ");
                        html.leaf("span", &[("class", &"ci")], change);
                    });
                });
            }
        },
    );
    html
}

fn bar(svg: &mut Html, class: &str, from: f64, width: f64) {
    if width <= 0.0 {
        return;
    }
    // A loss of one row in a million must still be seen.
    let width = width.max(0.003);
    let from = from.min(1.0 - width);
    svg.element(
        "rect",
        &[
            ("class", &class),
            ("x", &Share(from)),
            ("width", &Share(width)),
            ("y", &"50%"),
            ("height", &"12"),
            ("transform", &"translate(0 -6)"),
        ],
        |_| {},
    );
}

/// A share of one as a bar.
pub(crate) fn share_bar(name: &str, share: f64) -> Html {
    let mut html = Html::new();
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let title = format!("{name}: {}", format::percent(share));
    drawing(&mut html, "share", &title, "", |svg| {
        svg.element(
            "rect",
            &[("class", &"rest"), ("width", &"100%"), ("height", &"100%")],
            |_| {},
        );
        svg.element(
            "rect",
            &[
                ("class", &"kept"),
                ("width", &Share(share)),
                ("height", &"100%"),
            ],
            |_| {},
        );
    });
    html
}
