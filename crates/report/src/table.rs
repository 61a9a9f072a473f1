//! Result tables: one description gives HTML, Markdown and CSV.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::format::Shown;
use crate::html::Html;
use crate::protocol::families;

/// Which end of a column is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Best {
    /// Neither.
    Neither,
    /// The highest value.
    Highest,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Name in CSV.
    pub(crate) name: String,
    /// Title for people.
    pub(crate) title: String,
    /// Which end is marked.
    pub(crate) best: Best,
    /// Whether figures of the column have intervals: CSV then has `_low` and `_high` beside it.
    pub(crate) has_interval: bool,
    /// Whether the page leaves it out.
    pub(crate) is_for_files: bool,
}

impl Column {
    /// A column of words or plain numbers.
    pub(crate) fn new(name: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            best: Best::Neither,
            has_interval: false,
            is_for_files: false,
        }
    }

    /// The same column, in files alone.
    pub(crate) fn for_files(mut self) -> Self {
        self.is_for_files = true;
        self
    }

    /// The same column with its best end marked.
    pub(crate) fn best(mut self, best: Best) -> Self {
        self.best = best;
        self
    }

    /// The same column, holding intervals.
    pub(crate) fn with_interval(mut self) -> Self {
        self.has_interval = true;
        self
    }
}

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// The value.
    pub(crate) value: f64,
    /// Its 95 % interval.
    pub(crate) interval: Option<(f64, f64)>,
    /// How it is shown to people.
    pub(crate) shown: Shown,
    /// How it was computed.
    pub(crate) protocol: Option<String>,
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Nothing is known.
    Empty,
    /// Words.
    Text(String),
    /// A name that one could type.
    Code(String),
    /// Longer words, muted.
    Note(String),
    /// A whole number.
    Count(u64),
    /// A figure.
    Figure(Figure),
}

impl Cell {
    /// A figure without interval and protocol.
    pub(crate) fn plain(value: f64, shown: Shown) -> Self {
        Self::Figure(Figure {
            value,
            interval: None,
            shown,
            protocol: None,
        })
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Count(_) | Self::Figure(_))
    }
}

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The best value is sought among the rows of one group.
    pub(crate) group: String,
    /// Whether the row stands outside the competition, as chance and upper bounds do.
    pub(crate) is_reference: bool,
    /// One cell for each column.
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    /// A row that competes with all others.
    pub(crate) fn new(cells: Vec<Cell>) -> Self {
        Self {
            group: String::new(),
            is_reference: false,
            cells,
        }
    }

    /// The same row, competing within a group alone.
    pub(crate) fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// The same row outside the competition.
    pub(crate) fn reference(mut self, is_reference: bool) -> Self {
        self.is_reference = is_reference;
        self
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct ResultTable {
    /// Name of its files, without extension.
    pub(crate) name: String,
    /// Title.
    pub(crate) title: String,
    /// One sentence on how to read it; may be empty.
    pub(crate) note: String,
    /// Columns.
    pub(crate) columns: Vec<Column>,
    /// Whether the first column names the groups: the page then gives each group a line of its own.
    pub(crate) is_grouped: bool,
    /// Rows.
    pub(crate) rows: Vec<Row>,
}

/// Letters for the protocols of a table, in order of first use.
struct Protocols {
    order: Vec<String>,
    letters: BTreeMap<String, char>,
}

impl Protocols {
    fn of(table: &ResultTable) -> Self {
        let mut order: Vec<String> = Vec::new();
        let mut letters = BTreeMap::new();
        for column in 0..table.columns.len() {
            for row in &table.rows {
                if let Some(Cell::Figure(figure)) = row.cells.get(column)
                    && let Some(protocol) = &figure.protocol
                    && !letters.contains_key(protocol)
                {
                    let letter = u8::try_from(order.len())
                        .ok()
                        .and_then(|n| b'a'.checked_add(n))
                        .filter(u8::is_ascii_lowercase)
                        .map_or('*', char::from);
                    letters.insert(protocol.clone(), letter);
                    order.push(protocol.clone());
                }
            }
        }
        Self { order, letters }
    }

    /// The one protocol of a whole column, if there is just one and others elsewhere.
    fn of_column(&self, table: &ResultTable, column: usize) -> Option<char> {
        if self.order.len() < 2 {
            return None;
        }
        let mut letters = table
            .rows
            .iter()
            .filter_map(|row| match row.cells.get(column) {
                Some(Cell::Figure(figure)) => Some(self.letter(figure)),
                _ => None,
            });
        let first = letters.next()??;
        letters.all(|letter| letter == Some(first)).then_some(first)
    }

    /// What stands below the table: letters, empty where all figures are meant, and words.
    fn notes(&self) -> Vec<(String, String)> {
        let letter = |index: &usize| self.letters[&self.order[*index]].to_string();
        let is_one = self.order.len() == 1;
        let mut notes = Vec::new();
        let families = families(&self.order);
        for family in &families {
            let clauses = &family.clauses;
            let letters = if families.len() == 1 {
                String::new()
            } else {
                let all: Vec<String> = family.members.iter().map(letter).collect();
                all.join(" ")
            };
            if !clauses.shared.is_empty() {
                notes.push((letters, clauses.shared.clone()));
            }
            let own = family.members.iter().zip(&clauses.own);
            for (member, own) in own.filter(|(_, own)| !is_one && !own.is_empty()) {
                notes.push((letter(member), own.clone()));
            }
        }
        notes
    }

    fn letter(&self, figure: &Figure) -> Option<char> {
        self.letters.get(figure.protocol.as_ref()?).copied()
    }

    /// The letter that a cell bears itself.
    fn of_cell(&self, figure: &Figure, of_column: Option<char>) -> Option<char> {
        if self.order.len() < 2 || of_column.is_some() {
            return None;
        }
        self.letter(figure)
    }
}

impl ResultTable {
    /// For each cell, whether it is the best of its column and group. A group of one has no best.
    fn best(&self) -> Vec<Vec<bool>> {
        let mut best = vec![vec![false; self.columns.len()]; self.rows.len()];
        for (column, heading) in self.columns.iter().enumerate() {
            let mut groups: BTreeMap<&str, Vec<(usize, f64)>> = BTreeMap::new();
            for (index, row) in self.rows.iter().enumerate() {
                if let Some(Cell::Figure(figure)) = row.cells.get(column)
                    && heading.best == Best::Highest
                    && !row.is_reference
                {
                    let members = groups.entry(&row.group).or_default();
                    members.push((index, figure.value));
                }
            }
            for members in groups.into_values().filter(|members| members.len() > 1) {
                let top = members
                    .iter()
                    .fold(f64::NEG_INFINITY, |top, (_, value)| top.max(*value));
                for (index, value) in members {
                    best[index][column] = value.total_cmp(&top).is_eq();
                }
            }
        }
        best
    }

    /// Whether a column holds numbers, which stand at its right.
    fn is_number(&self, column: usize) -> bool {
        self.rows
            .iter()
            .filter_map(|row| row.cells.get(column))
            .any(Cell::is_number)
    }

    /// The table as HTML.
    pub(crate) fn html(&self) -> Html {
        let mut html = Html::new();
        let protocols = Protocols::of(self);
        let best = self.best();
        let mut shown = self.shown();
        shown.retain(|column| {
            !self.columns[*column].is_for_files && !(self.is_grouped && *column == 0)
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
            self.foot_html(html, &protocols);
        });
        html
    }

    /// Columns that hold anything, for people; CSV has all.
    fn shown(&self) -> Vec<usize> {
        (0..self.columns.len())
            .filter(|column| {
                let cells = || self.rows.iter().filter_map(|row| row.cells.get(*column));
                self.rows.is_empty() || cells().any(|cell| !matches!(cell, Cell::Empty))
            })
            .collect()
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

    fn foot_html(&self, html: &mut Html, protocols: &Protocols) {
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

    /// The table as a Markdown file.
    pub(crate) fn markdown(&self) -> String {
        let protocols = Protocols::of(self);
        let best = self.best();
        let mut text = format!("# {}\n\n", markdown_text(&self.title));
        if !self.note.is_empty() {
            let _ = writeln!(text, "{}\n", markdown_text(&self.note));
        }
        let shown = self.shown();
        let heads = shown.iter().map(|index| {
            let (index, column) = (*index, &self.columns[*index]);
            let letter = protocols.of_column(self, index);
            let letter = letter.map_or_else(String::new, |letter| format!(" ({letter})"));
            format!("{}{letter}", markdown_text(&column.title))
        });
        push_markdown_row(&mut text, heads);
        let rules = shown.iter().map(|index| {
            if self.is_number(*index) {
                "---:"
            } else {
                "---"
            }
            .to_owned()
        });
        push_markdown_row(&mut text, rules);
        for (row, marks) in self.rows.iter().zip(&best) {
            let cells = shown.iter().filter_map(|index| {
                let index = *index;
                let cell = row.cells.get(index)?;
                let is_best = marks.get(index).copied().unwrap_or(false);
                let of_column = protocols.of_column(self, index);
                Some(markdown_cell(cell, is_best, |figure| {
                    protocols.of_cell(figure, of_column)
                }))
            });
            push_markdown_row(&mut text, cells);
        }
        if self.rows.is_empty() {
            text.push_str("\nNo rows.\n");
        }
        if best.iter().flatten().any(|is_best| *is_best) {
            text.push_str("\n**Bold**: best of its column and group.");
            text.push_str(" Brackets: 95 % interval.\n");
        }
        if !protocols.order.is_empty() {
            text.push_str("\nProtocol:");
            for (letters, note) in protocols.notes() {
                if !letters.is_empty() {
                    let _ = write!(text, " ({letters})");
                }
                let _ = write!(text, " {}.", markdown_text(&note));
            }
            text.push('\n');
        }
        text
    }

    /// The table as CSV with full precision: RFC 4180 with line feeds, a header line, empty fields
    /// for what is not known.
    pub(crate) fn csv(&self) -> String {
        let mut text = String::new();
        let mut heads = Vec::new();
        for column in &self.columns {
            heads.push(column.name.clone());
            if column.has_interval {
                heads.push(format!("{}_low", column.name));
                heads.push(format!("{}_high", column.name));
            }
        }
        push_csv_row(&mut text, &heads);
        for row in &self.rows {
            let mut fields = Vec::new();
            for (column, cell) in self.columns.iter().zip(&row.cells) {
                let mut interval = None;
                fields.push(match cell {
                    Cell::Empty => String::new(),
                    Cell::Text(text) | Cell::Code(text) | Cell::Note(text) => text.clone(),
                    Cell::Count(n) => n.to_string(),
                    Cell::Figure(figure) => {
                        interval = figure.interval;
                        number(figure.value)
                    }
                });
                if column.has_interval {
                    let (low, high) = interval
                        .map_or_else(Default::default, |(low, high)| (number(low), number(high)));
                    fields.extend([low, high]);
                }
            }
            push_csv_row(&mut text, &fields);
        }
        text
    }
}

/// The shortest text that reads back as the same number.
fn number(value: f64) -> String {
    // Negative zero is not worth a sign.
    format!("{}", value + 0.0)
}

fn push_csv_row(text: &mut String, fields: &[String]) {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        if field.contains([',', '"', '\n', '\r']) || field.trim() != field {
            text.push('"');
            text.push_str(&field.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(field);
        }
    }
    text.push('\n');
}

fn push_markdown_row(text: &mut String, cells: impl Iterator<Item = String>) {
    text.push('|');
    for cell in cells {
        text.push(' ');
        text.push_str(&cell);
        text.push_str(" |");
    }
    text.push('\n');
}

fn markdown_cell(cell: &Cell, is_best: bool, letter: impl Fn(&Figure) -> Option<char>) -> String {
    match cell {
        Cell::Empty => "–".to_owned(),
        Cell::Text(text) | Cell::Note(text) => markdown_text(text),
        Cell::Code(text) => markdown_code(text),
        Cell::Count(n) => crate::format::count(*n),
        Cell::Figure(figure) => {
            let mut text = figure.shown.of(figure.value).replace('<', "&lt;");
            if is_best {
                text = format!("**{text}**");
            }
            if let Some((low, high)) = figure.interval {
                let _ = write!(text, " [{}]", figure.shown.interval(low, high));
            }
            if let Some(letter) = letter(figure) {
                let _ = write!(text, " ({letter})");
            }
            text
        }
    }
}

/// Words on one line of a Markdown table, with nothing that Markdown or HTML would interpret.
pub(crate) fn markdown_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '~' | '#' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A name as code on one line of a Markdown table.
fn markdown_code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    if text.contains(['`', '\\']) || text.chars().any(char::is_control) {
        return markdown_text(text);
    }
    format!("`{}`", text.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, interval: Option<(f64, f64)>, protocol: &str) -> Cell {
        Cell::Figure(Figure {
            value,
            interval,
            shown: Shown::Decimals(3),
            protocol: Some(protocol.to_owned()),
        })
    }

    fn example() -> ResultTable {
        ResultTable {
            name: "example".to_owned(),
            title: "An example".to_owned(),
            note: "Higher is better.".to_owned(),
            is_grouped: false,
            columns: vec![
                Column::new("method", "method"),
                Column::new("auroc", "AUROC")
                    .best(Best::Highest)
                    .with_interval(),
                Column::new("n", "samples"),
                Column::new("note", "note"),
            ],
            rows: vec![
                Row::new(vec![
                    Cell::Code("knn_shapley".to_owned()),
                    figure(0.75, Some((0.7, 0.8)), "mid-ranks; shared"),
                    Cell::Count(12_000),
                    Cell::Text("a|b, \"c\"".to_owned()),
                ]),
                Row::new(vec![
                    Cell::Code("loss".to_owned()),
                    figure(0.5, None, "mid-ranks; shared"),
                    Cell::Empty,
                    Cell::Text("<试金石>\nnext".to_owned()),
                ]),
                Row::new(vec![
                    Cell::Code("oracle".to_owned()),
                    figure(1.0, None, "by definition; shared"),
                    Cell::Empty,
                    Cell::Empty,
                ])
                .reference(true),
            ],
        }
    }

    #[test]
    fn markdown_of_a_small_table() {
        assert_eq!(
            example().markdown(),
            "# An example\n\n\
             Higher is better.\n\n\
             | method | AUROC | samples | note |\n\
             | --- | ---: | ---: | --- |\n\
             | `knn_shapley` | **0.750** [0.700–0.800] (a) | 12,000 | a\\|b, \"c\" |\n\
             | `loss` | 0.500 (a) | – | &lt;试金石> next |\n\
             | `oracle` | 1.000 (b) | – | – |\n\n\
             **Bold**: best of its column and group. Brackets: 95 % interval.\n\n\
             Protocol: shared. (a) mid-ranks. (b) by definition.\n"
        );
    }

    #[test]
    fn csv_of_a_small_table() {
        assert_eq!(
            example().csv(),
            "method,auroc,auroc_low,auroc_high,n,note\n\
             knn_shapley,0.75,0.7,0.8,12000,\"a|b, \"\"c\"\"\"\n\
             loss,0.5,,,,\"<试金石>\nnext\"\n\
             oracle,1,,,,\n"
        );
    }

    #[test]
    fn the_best_is_sought_within_a_group_and_without_references() {
        let mut table = example();
        assert_eq!(
            table.best().iter().map(|row| row[1]).collect::<Vec<_>>(),
            [true, false, false]
        );
        table.rows[0].group = "other".to_owned();
        assert!(table.best().iter().flatten().all(|is_best| !is_best));
        table.rows[0].group = String::new();
        table.rows[1].cells[1] = figure(0.75, None, "mid-ranks; shared");
        let ties: Vec<bool> = table.best().iter().map(|row| row[1]).collect();
        assert_eq!(ties, [true, true, false]);
    }

    #[test]
    fn html_escapes_what_the_data_says() {
        let html = example().html().into_string();
        assert!(html.contains("&lt;试金石&gt;"), "{html}");
        assert!(html.contains("class=\"n best\""), "{html}");
    }
}
