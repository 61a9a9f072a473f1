//! A symmetric matrix as a table whose cells are tinted: the numbers stay readable and selectable.

use crate::format;
use crate::html::Html;

/// Pairwise values in `[-1, 1]`.
#[derive(Clone, Debug)]
pub(crate) struct Heat {
    /// What is shown.
    pub(crate) title: String,
    /// Names of rows and columns.
    pub(crate) names: Vec<String>,
    /// Values by (row, column); `None` where unknown.
    pub(crate) values: Vec<Vec<Option<f64>>>,
}

impl Heat {
    /// Draws the matrix; nothing without names.
    pub(crate) fn draw(&self) -> Html {
        let mut html = Html::new();
        if self.names.is_empty() {
            return html;
        }
        html.element("div", &[("class", &"scroll"), ("tabindex", &"0")], |html| {
            html.element("table", &[("class", &"heat")], |html| {
                html.leaf("caption", &[], &self.title);
                html.element("thead", &[], |html| {
                    html.element("tr", &[], |html| {
                        html.leaf("td", &[], "");
                        for name in &self.names {
                            html.element("th", &[("scope", &"col")], |html| {
                                html.leaf("span", &[], name);
                            });
                        }
                    });
                });
                html.element("tbody", &[], |html| {
                    for (row, name) in self.names.iter().enumerate() {
                        html.element("tr", &[], |html| {
                            html.leaf("th", &[("scope", &"row")], name);
                            for column in 0..self.names.len() {
                                self.draw_cell(html, row, column);
                            }
                        });
                    }
                });
            });
        });
        html
    }

    fn draw_cell(&self, html: &mut Html, row: usize, column: usize) {
        let value = self
            .values
            .get(row)
            .and_then(|row| row.get(column).copied().flatten())
            .filter(|value| value.is_finite());
        if row == column {
            html.leaf("td", &[("class", &"self")], "·");
            return;
        }
        let Some(value) = value else {
            html.leaf("td", &[("class", &"unknown")], "");
            return;
        };
        let class = if value < 0.0 { "against" } else { "with" };
        let strength = format!("--a:{:.3}", value.abs().min(1.0) * 0.62);
        let name = format!(
            "{} and {}: {}",
            self.names[row],
            self.names[column],
            format::decimals(value, 3)
        );
        html.leaf(
            "td",
            &[("class", &class), ("style", &strength), ("title", &name)],
            format::decimals(value, 2),
        );
    }
}
