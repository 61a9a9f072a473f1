//! Tables on the page.

use super::{Cell, Protocols, ResultTable, Row};
use crate::html::Html;

impl ResultTable {
    /// The table as HTML.
    pub(crate) fn html(&self) -> Html {
        let mut html = Html::new();
        let protocols = Protocols::of(self);
        let best = self.best();
        let mut shown = self.shown();
        shown.retain(|column| {
            !(self.columns[*column].is_for_files || self.is_grouped && *column == 0)
        });
        html.element("div", &[("class", &"result")], |html| {
            html.element("div", &[("class", &"scroll"), ("tabindex", &"0")], |html| {
                html.element("table", &[], |html| {
                    html.element("caption", &[], |html| {
                        html.text(&self.title);
                        if !self.note.is_empty() {
                            html.leaf("span", &[("class", &"note")], &self.note);
                        }
                    });
                    html.element("thead", &[], |html| {
                        html.element("tr", &[], |html| {
                            self.head_html(html, &shown, &protocols);
                        });
                    });
                    html.element("tbody", &[], |html| {
                        let mut before: Option<&Cell> = None;
                        for (row, marks) in self.rows.iter().zip(&best) {
                            let head = row.cells.first().filter(|_| self.is_grouped);
                            if head != before {
                                self.group_html(html, head, shown.len(), &protocols);
                                before = head;
                            }
                            self.row_html(html, row, marks, &shown, &protocols);
                        }
                    });
                });
            });
            Self::foot_html(html, &protocols);
        });
        html
    }

    fn head_html(&self, html: &mut Html, shown: &[usize], protocols: &Protocols) {
        for index in shown.iter().copied() {
            let column = &self.columns[index];
            let class = if self.is_number(index) { "n" } else { "" };
            html.element("th", &[("scope", &"col"), ("class", &class)], |html| {
                html.text(&column.title);
                if let Some(letter) = protocols.of_column(self, index) {
                    html.leaf("sup", &[], letter);
                }
            });
        }
    }

    fn group_html(
        &self,
        html: &mut Html,
        head: Option<&Cell>,
        n_columns: usize,
        protocols: &Protocols,
    ) {
        let Some(head) = head else { return };
        html.element("tr", &[("class", &"group")], |html| {
            html.element(
                "th",
                &[("scope", &"rowgroup"), ("colspan", &n_columns)],
                |html| self.cell_html(html, head, 0, protocols),
            );
        });
    }

    fn row_html(
        &self,
        html: &mut Html,
        row: &Row,
        marks: &[bool],
        shown: &[usize],
        protocols: &Protocols,
    ) {
        let class = if row.is_reference { "outside" } else { "" };
        html.element("tr", &[("class", &class)], |html| {
            for index in shown.iter().copied() {
                let Some(cell) = row.cells.get(index) else {
                    continue;
                };
                let is_best = marks.get(index).copied().unwrap_or(false);
                let class = match (cell, is_best) {
                    (Cell::Figure(_), true) => "n best",
                    (Cell::Count(_) | Cell::Figure(_), _) => "n",
                    (Cell::Empty, _) if self.is_number(index) => "n",
                    (Cell::Note(_), _) => "note",
                    (Cell::Text(_), _) => "t",
                    _ => "",
                };
                html.element("td", &[("class", &class)], |html| {
                    self.cell_html(html, cell, index, protocols);
                });
            }
        });
    }

    fn cell_html(&self, html: &mut Html, cell: &Cell, column: usize, protocols: &Protocols) {
        match cell {
            Cell::Empty => {
                html.leaf("span", &[("class", &"none")], "–");
            }
            Cell::Text(text) | Cell::Note(text) => {
                html.prose(text);
            }
            Cell::Code(text) => {
                html.leaf("code", &[], text);
            }
            Cell::Count(n) => {
                html.text(crate::format::count(*n));
            }
            Cell::Figure(figure) => {
                html.leaf("span", &[("class", &"v")], figure.shown.of(figure.value));
                let of_column = protocols.of_column(self, column);
                if let Some(letter) = protocols.of_cell(figure, of_column) {
                    html.leaf("sup", &[], letter);
                }
                if let Some((low, high)) = figure.interval {
                    html.text(" ");
                    html.leaf(
                        "span",
                        &[("class", &"ci")],
                        figure.shown.interval(low, high),
                    );
                }
            }
        }
    }

    fn foot_html(html: &mut Html, protocols: &Protocols) {
        if protocols.order.is_empty() {
            return;
        }
        html.element("p", &[("class", &"protocol")], |html| {
            html.leaf("span", &[("class", &"lead")], "Protocol");
            html.text(" ");
            for (letters, text) in protocols.notes() {
                if !letters.is_empty() {
                    html.leaf("sup", &[], letters);
                    html.text('\u{a0}');
                }
                html.text(text).text(". ");
            }
        });
    }
}
