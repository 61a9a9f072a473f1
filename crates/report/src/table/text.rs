//! Tables as files: Markdown for people, CSV for machines.

use std::fmt::Write as _;

use super::{Cell, Figure, Protocols, ResultTable};

impl ResultTable {
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
        Cell::Text(text) | Cell::Note(text) => markdown_prose(text),
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

/// Words in which names stand in backticks, as code.
fn markdown_prose(text: &str) -> String {
    if text.matches('`').count() % 2 == 1 {
        return markdown_text(text);
    }
    text.split('`')
        .enumerate()
        .map(|(index, piece)| {
            if index % 2 == 1 {
                markdown_code(piece)
            } else {
                markdown_text(piece)
            }
        })
        .collect()
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
