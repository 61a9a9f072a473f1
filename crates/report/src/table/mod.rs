//! Result tables: one description gives HTML, Markdown and CSV.

mod html;
mod text;

pub(crate) use text::markdown_text;

use std::collections::BTreeMap;

use crate::format::Shown;
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
                range(&family.members, letter)
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

/// Letters of ascending indices: `b`, `a b`, `c–g`.
fn range(members: &[usize], letter: impl Fn(&usize) -> String) -> String {
    match members {
        [first, .., last] if members.len() > 2 && last - first + 1 == members.len() => {
            format!("{}–{}", letter(first), letter(last))
        }
        _ => members.iter().map(letter).collect::<Vec<_>>().join(" "),
    }
}

impl ResultTable {
    /// For each cell, whether it is the best of its column and group. A group of one has no best,
    /// nor has one whose members are all equal.
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
                let is_top = |value: &f64| value.total_cmp(&top).is_eq();
                if members.iter().all(|(_, value)| is_top(value)) {
                    continue;
                }
                for (index, value) in members {
                    best[index][column] = is_top(&value);
                }
            }
        }
        best
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

    /// Whether a column holds numbers, which stand at its right.
    fn is_number(&self, column: usize) -> bool {
        self.rows
            .iter()
            .filter_map(|row| row.cells.get(column))
            .any(Cell::is_number)
    }
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
        // All that compete are equal: none is best.
        assert!(table.best().iter().flatten().all(|is_best| !is_best));
        table.rows[2].is_reference = false;
        let best: Vec<bool> = table.best().iter().map(|row| row[1]).collect();
        assert_eq!(best, [false, false, true]);
    }

    #[test]
    fn html_escapes_what_the_data_says() {
        let html = example().html().into_string();
        assert!(html.contains("&lt;试金石&gt;"), "{html}");
        assert!(html.contains("class=\"n best\""), "{html}");
    }
}
