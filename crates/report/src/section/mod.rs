//! The sections of a report: each turns evidence into words, charts and tables.

mod action;
mod agreement;
mod answer;
mod cost;
mod data;
mod detection;
mod features;
mod groups;
mod influences;
mod methods;
mod published;
mod ranking;
mod record;
mod sensitivity;

use crate::Published;
use crate::evidence::Evidence;
use crate::html::Html;
use crate::table::ResultTable;

/// Rows up to which a table of the second rank is shown unasked.
const MOST_ROWS: usize = 12;

/// One section.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Anchor.
    pub(crate) id: &'static str,
    /// Title, a few words.
    pub(crate) title: &'static str,
    /// How to read it.
    pub(crate) guide: String,
    /// Content.
    pub(crate) body: Html,
    /// Its tables for the folder `tables`. Measured things have no place here.
    pub(crate) tables: Vec<ResultTable>,
}

/// All sections, the answer first.
pub(crate) fn sections(evidence: &Evidence, published: &[Published]) -> Vec<Section> {
    let mut sections = vec![
        answer::section(evidence),
        detection::section(evidence),
        action::section(evidence),
        cost::section(evidence),
        data::section(evidence),
        ranking::section(evidence),
        agreement::section(evidence),
        methods::section(evidence),
        record::section(evidence),
    ];
    let of_scores = [
        features::section(evidence),
        groups::section(evidence),
        influences::section(evidence),
    ];
    let after_action = 3;
    sections.splice(after_action..after_action, of_scores.into_iter().flatten());
    if let Some(section) = published::section(evidence, published) {
        sections.insert(1, section);
    }
    sections
}

/// Says what is not there, and why.
fn missing(html: &mut Html, evidence: &Evidence, role: &str, what: &str) {
    html.element("p", &[("class", &"missing")], |html| {
        html.leaf("span", &[("class", &"lead")], "Not shown");
        html.text(format!(" {what}: "));
        if evidence.given.contains(role) {
            html.text("the wired ");
            html.leaf("code", &[], role);
            html.text(" hold nothing of the kind.");
        } else {
            html.text("no ");
            html.leaf("code", &[], role);
            html.text(" were wired to this report.");
        }
    });
}

/// A chart with its caption; nothing where the chart is empty.
fn figure(html: &mut Html, chart: &Html, caption: &str) {
    if chart.is_empty() {
        return;
    }
    html.element("figure", &[], |html| {
        html.piece(chart);
        html.leaf("figcaption", &[], caption);
    });
}

/// Adds a table to the page and to the folder.
fn show(html: &mut Html, tables: &mut Vec<ResultTable>, table: ResultTable) {
    html.piece(&table.html());
    tables.push(table);
}

/// As `show`, but a long table is folded away on the page.
fn fold(html: &mut Html, tables: &mut Vec<ResultTable>, table: ResultTable) {
    if table.rows.len() <= MOST_ROWS {
        show(html, tables, table);
        return;
    }
    html.element("details", &[], |html| {
        html.element("summary", &[], |html| {
            html.text(&table.title);
        });
        html.piece(&table.html());
    });
    tables.push(table);
}

/// Text with a capital first letter.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
