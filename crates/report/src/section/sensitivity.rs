//! What the choice of a method's parameters matters.

use tables::Sensitivity;

use crate::evidence::Evidence;
use crate::format::Shown;
use crate::table::{Cell, Column, Figure, ResultTable, Row};
use crate::view;

/// Half of a 95 % interval in standard errors.
const HALF: f64 = 1.96;

/// The table of settings that were tried, where there are any.
pub(super) fn table(evidence: &Evidence) -> Option<ResultTable> {
    let tried = &evidence.results.sensitivity;
    if tried.is_empty() {
        return None;
    }
    let rows = tried.iter().map(|(label, setting)| {
        let place = view::place_of(label);
        let group = format!("{} {place}", setting.method);
        Row::new(vec![
            Cell::Code(setting.method.clone()),
            Cell::Code(place),
            Cell::Code(setting.parameters.clone()),
            criterion(setting),
            figure(setting.spearman),
            Cell::Text(if setting.is_chosen { "yes" } else { "no" }.to_owned()),
        ])
        .group(group)
    });
    Some(ResultTable {
        name: "sensitivity".to_owned(),
        is_grouped: true,
        title: "Settings that were tried".to_owned(),
        note: "How well a setting holds on requests that no score is measured against: for methods on \
               gradients the fall of their loss per unit of root mean square change of the samples' \
               losses, for neighbours their utility. The interval is over these requests, and the order \
               of the samples is compared with that of the chosen setting."
            .to_owned(),
        columns: vec![
            Column::new("method", "method"),
            Column::new("node", "node"),
            Column::new("parameters", "parameters"),
            Column::new("criterion", "held-out requests").with_interval(),
            Column::new("spearman", "rank correlation with the chosen"),
            Column::new("is_chosen", "chosen"),
        ],
        rows: rows.collect(),
    })
}

fn criterion(setting: &Sensitivity) -> Cell {
    let Some(value) = setting.criterion else {
        return Cell::Empty;
    };
    let interval = setting
        .std_error
        .map(|error| (value - HALF * error, value + HALF * error));
    Cell::Figure(Figure {
        value,
        interval,
        shown: Shown::Decimals(4),
        protocol: None,
    })
}

fn figure(value: Option<f64>) -> Cell {
    value.map_or(Cell::Empty, |value| Cell::plain(value, Shown::Decimals(3)))
}
