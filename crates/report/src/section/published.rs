//! Published figures beside ours: what others report, the band in which ours must lie, the verdict.

use tables::Metric;

use super::{Section, show};
use crate::evidence::Evidence;
use crate::format::{self, Shown};
use crate::html::Html;
use crate::table::{Cell, Column, ResultTable, Row};
use crate::view::TEST;
use crate::{Candidates, Published};

/// Half a unit of the fourth decimal: a published figure without a band must be met to four decimals.
const ROUNDING: f64 = 0.000_05;

/// One published figure, judged.
struct Judged<'a> {
    published: &'a Published,
    ours: Option<Ours>,
}

/// Our figure.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ours {
    /// Mean over seeds.
    mean: f64,
    /// Standard deviation over seeds, with n - 1; `None` for one seed.
    spread: Option<f64>,
    n_seeds: u64,
}

impl Judged<'_> {
    fn mean(&self) -> Option<f64> {
        self.ours.map(|ours| ours.mean)
    }

    /// The accept band; open at an end that is not given beside one that is.
    fn band(&self) -> (f64, f64) {
        match (self.published.low, self.published.high) {
            (None, None) => (
                self.published.value - ROUNDING,
                self.published.value + ROUNDING,
            ),
            (low, high) => (low.unwrap_or(0.0), high.unwrap_or(1.0)),
        }
    }

    fn passes(&self) -> Option<bool> {
        let (low, high) = self.band();
        self.mean().map(|mean| (low..=high).contains(&mean))
    }

    fn verdict(&self) -> &'static str {
        match self.passes() {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "not run",
        }
    }
}

/// The section; `None` where no published figures were named.
pub(super) fn section(evidence: &Evidence, published: &[Published]) -> Option<Section> {
    if published.is_empty() {
        return None;
    }
    let judged: Vec<Judged<'_>> = published
        .iter()
        .map(|published| Judged {
            published,
            ours: ours(evidence, published),
        })
        .collect();
    let mut body = Html::new();
    let mut tables = Vec::new();
    let n_passed = judged
        .iter()
        .filter(|judged| judged.passes() == Some(true))
        .count();
    body.leaf(
        "p",
        &[("class", &"lead")],
        format!(
            "{n_passed} of {} within their bands.",
            format::counted(
                judged.len() as u64,
                "published figure lies",
                "published figures lie"
            ),
        ),
    );
    show(&mut body, &mut tables, table(&judged));
    Some(Section {
        id: "published",
        title: "Beside what others published",
        guide: "Each row is a figure that somebody reported on this data under this protocol; ours is the \
                mean over seeds. A figure without a band must be met to four decimals."
            .to_owned(),
        body,
        tables,
    })
}

/// Our figure for a published one: the mean over seeds that `evaluate` gives, beside which it writes
/// how far seeds lie apart.
fn ours(evidence: &Evidence, published: &Published) -> Option<Ours> {
    let apart = format!("{}_seed_std", published.metric);
    let is_meant = |row: &&Metric, metric: &str| {
        row.family == "ranking"
            && row.part == TEST
            && row.action.is_none()
            && row.segment == published.candidates.segment()
            && row.metric == metric
            && row.model.as_deref() == Some(published.model.as_str())
    };
    let rows = || evidence.metrics.iter();
    let row = rows().find(|row| is_meant(row, &published.metric))?;
    let is_of_it = |other: &&Metric| other.node == row.node && other.label == row.label;
    let apart = rows()
        .filter(|row| is_meant(row, &apart))
        .find(|other| is_of_it(other));
    Some(Ours {
        mean: row.value,
        spread: apart.map(|apart| apart.value),
        n_seeds: apart.map_or(1, |apart| apart.n),
    })
}

fn table(judged: &[Judged<'_>]) -> ResultTable {
    let figure = |value: Option<f64>| {
        value.map_or(Cell::Empty, |value| Cell::plain(value, Shown::Decimals(4)))
    };
    let rows = judged.iter().map(|judged| {
        let published = judged.published;
        let (low, high) = judged.band();
        let band = match (published.low, published.high) {
            (None, None) => "to four decimals".to_owned(),
            (Some(_), None) => format!("from {}", format::decimals(low, 4)),
            _ => format!("{}–{}", format::decimals(low, 4), format::decimals(high, 4)),
        };
        let mean = judged.mean();
        Row::new(vec![
            Cell::Code(published.model.clone()),
            Cell::Text(published.metric.clone()),
            Cell::Text(
                match published.candidates {
                    Candidates::All => "all",
                    Candidates::New => "outside the history",
                }
                .to_owned(),
            ),
            figure(Some(published.value)),
            Cell::Text(band),
            figure(mean),
            figure(judged.ours.and_then(|ours| ours.spread)),
            judged
                .ours
                .map_or(Cell::Empty, |ours| Cell::Count(ours.n_seeds)),
            mean.map_or(Cell::Empty, |mean| {
                Cell::plain(mean - published.value, Shown::Signed(4))
            }),
            Cell::Text(judged.verdict().to_owned()),
            Cell::Note(published.source.clone()),
        ])
    });
    let columns = [
        ("model", "model"),
        ("metric", "metric"),
        ("candidates", "candidates"),
        ("published", "published"),
        ("band", "accepted"),
        ("ours", "here, mean"),
        ("spread", "standard deviation over seeds"),
        ("n_seeds", "seeds"),
        ("gap", "gap"),
        ("verdict", "verdict"),
        ("source", "source"),
    ];
    ResultTable {
        name: "published".to_owned(),
        is_grouped: false,
        title: "Published figures".to_owned(),
        note: String::new(),
        columns: columns
            .map(|(name, title)| Column::new(name, title))
            .to_vec(),
        rows: rows.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(published: &Published, mean: Option<f64>) -> &'static str {
        let ours = mean.map(|mean| Ours {
            mean,
            spread: None,
            n_seeds: 1,
        });
        Judged { published, ours }.verdict()
    }

    #[test]
    fn a_figure_is_judged_by_its_band_or_to_four_decimals() {
        let mut published = Published {
            model: "markov".to_owned(),
            metric: "ndcg@10".to_owned(),
            candidates: Candidates::All,
            value: 0.0439,
            low: None,
            high: None,
            source: String::new(),
        };
        assert_eq!(verdict(&published, Some(0.043_94)), "pass");
        assert_eq!(verdict(&published, Some(0.043_96)), "FAIL");
        assert_eq!(verdict(&published, None), "not run");
        published.low = Some(0.04);
        assert_eq!(verdict(&published, Some(0.9)), "pass");
        published.high = Some(0.05);
        assert_eq!(verdict(&published, Some(0.9)), "FAIL");
    }
}
