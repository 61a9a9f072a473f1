//! Sentences that hold, drawn from the rows of `metrics` alone: what is said can be looked up.

mod action;
mod cautions;
mod detection;
mod ranking;

use tables::{Conclusion, Metric, Part};

use crate::answers::{Answered, Requests};
use crate::scored::{Scored, Universe};
use crate::text::evidence;

/// Level below which a corrected p-value counts as evidence.
const LEVEL: f64 = 0.05;

/// What sentences need beside the figures.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Requests have instants, so that the split can be temporal.
    has_instants: bool,
    /// Planted samples were wired.
    knows_planting: bool,
    n_planted: u64,
    n_samples: u64,
    kinds: Vec<String>,
    has_scores: bool,
    /// Requests that inputs left unanswered, by input.
    missing: Vec<(String, u64)>,
    /// Nodes that drop exactly the planted samples.
    oracle: Vec<String>,
}

impl Facts {
    pub(crate) fn new(
        requests: &Requests,
        answered: [&Answered; 2],
        universe: &Universe,
        scores: &Scored,
        oracle: Vec<String>,
    ) -> Self {
        let inputs = answered.into_iter().flat_map(|answered| &answered.inputs);
        Self {
            has_instants: requests.rows.iter().any(|row| row.requested_at.is_some()),
            knows_planting: universe.node.is_some(),
            n_planted: universe.n_planted() as u64,
            n_samples: universe.samples.len() as u64,
            kinds: universe.kinds.clone(),
            has_scores: !scores.groups.is_empty(),
            missing: inputs
                .filter(|input| input.n_missing > 0)
                .map(|input| (input.label.to_string(), input.n_missing))
                .collect(),
            oracle,
        }
    }
}

/// Sentences on their way to the table.
#[derive(Default)]
struct Sentences(Vec<Conclusion>);

impl Sentences {
    fn push(&mut self, topic: &str, text: String, behind: &[&Metric]) {
        self.0.push(Conclusion {
            rank: u32::try_from(self.0.len()).unwrap_or(u32::MAX),
            topic: topic.to_owned(),
            text,
            evidence: evidence(behind),
        });
    }
}

/// Draws all sentences, most important first.
pub(crate) fn draw(rows: &[Metric], facts: &Facts) -> Vec<Conclusion> {
    let rows = Rows(rows);
    let mut sentences = Sentences::default();
    detection::detection(rows, facts, &mut sentences);
    detection::simulated(rows, &mut sentences);
    let part = rows.judging_part();
    if let Some(part) = part {
        action::action(rows, part, facts, &mut sentences);
        ranking::ranking(rows, part, &mut sentences);
    }
    cautions::cautions(rows, part, facts, &mut sentences);
    sentences.0
}

/// All figures.
#[derive(Clone, Copy)]
struct Rows<'a>(&'a [Metric]);

impl<'a> Rows<'a> {
    fn all(self, family: &str, metric: &str, part: &str, segment: &str) -> Vec<&'a Metric> {
        let is_one = |row: &&Metric| {
            row.family == family
                && row.metric == metric
                && row.part == part
                && row.segment == segment
        };
        self.0.iter().filter(is_one).collect()
    }

    /// Another figure of the thing that a row speaks of.
    fn beside(self, row: &Metric, metric: &str) -> Option<&'a Metric> {
        self.0.iter().find(|other| {
            other.metric == metric && is_same_thing(row, other) && other.label == row.label
        })
    }

    /// Comparisons of the thing that a row speaks of; their labels also name the other thing.
    fn compared(self, row: &Metric, metric: &str) -> Vec<&'a Metric> {
        let own = |other: &Metric| {
            let mut label = stage::Label::parse(&other.label).unwrap_or_default();
            label.0.retain(|axis, _| !axis.starts_with("other_"));
            label.to_string() == row.label
        };
        let is_one =
            |other: &&Metric| other.metric == metric && is_same_thing(row, other) && own(other);
        self.0.iter().filter(is_one).collect()
    }

    /// The part that judges: test, else the best that there is.
    fn judging_part(self) -> Option<&'static str> {
        [Part::Test, Part::ValuationTune, Part::ValuationFit]
            .map(Part::as_str)
            .into_iter()
            .find(|part| {
                self.0
                    .iter()
                    .any(|row| row.family == "ranking" && row.part == *part)
            })
    }
}

/// Whether two rows speak of the same inputs in the same circumstances.
fn is_same_thing(row: &Metric, other: &Metric) -> bool {
    row.family == other.family
        && row.part == other.part
        && row.segment == other.segment
        && row.node == other.node
        && row.model == other.model
        && row.method == other.method
        && row.action == other.action
}

/// Highest value; the first of several.
fn best<'a>(rows: &[&'a Metric]) -> Option<&'a Metric> {
    rows.iter()
        .copied()
        .reduce(|best, row| if row.value > best.value { row } else { best })
}

/// Names that tell the rows apart: the method (or model, or node); where several rows share it the
/// model; where that does not tell them apart the node and the further axes.
fn names(rows: &[&Metric]) -> Vec<String> {
    let short = |row: &Metric| {
        row.method
            .as_ref()
            .or(row.model.as_ref())
            .unwrap_or(&row.node)
            .clone()
    };
    rows.iter()
        .map(|row| {
            let name = short(row);
            let alike: Vec<&&Metric> = rows.iter().filter(|other| short(other) == name).collect();
            if alike.len() == 1 {
                return format!("`{name}`");
            }
            let mut more = Vec::new();
            if let Some(model) = row.model.as_ref().filter(|model| **model != name) {
                more.push(format!("on `{model}`"));
            }
            let mut rest: Vec<&&Metric> = alike
                .into_iter()
                .filter(|other| other.model == row.model)
                .collect();
            if rest.len() > 1 && rest.iter().any(|other| other.node != row.node) {
                more.push(format!("by node `{}`", row.node));
                rest.retain(|other| other.node == row.node);
            }
            if rest.len() > 1 && !row.label.is_empty() {
                more.push(format!("with {}", row.label));
            }
            // Rows that differ in the model alone, and have none here.
            if more.is_empty() {
                more.push(format!("by node `{}`", row.node));
            }
            format!("`{name}` {}", more.join(" "))
        })
        .collect()
}

fn is_significant(row: &Metric) -> bool {
    row.p_value.is_some_and(|p| p < LEVEL)
}

/// Whether an interval lies beyond zero.
fn excludes_zero(row: &Metric) -> bool {
    row.low.is_some_and(|low| low > 0.0) || row.high.is_some_and(|high| high < 0.0)
}

/// What to call the model of a row.
fn model_of(row: &Metric) -> String {
    format!("`{}`", row.model.as_ref().unwrap_or(&row.node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: &str, model: Option<&str>, method: Option<&str>, label: &str) -> Metric {
        Metric {
            family: "detection".to_owned(),
            metric: "auroc".to_owned(),
            part: "training".to_owned(),
            segment: "all".to_owned(),
            node: node.to_owned(),
            model: model.map(str::to_owned),
            method: method.map(str::to_owned),
            action: None,
            label: label.to_owned(),
            value: 0.5,
            low: None,
            high: None,
            p_value: None,
            n: 1,
            protocol: String::new(),
        }
    }

    fn named(rows: &[Metric]) -> Vec<String> {
        names(&rows.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_name_says_no_more_than_tells_it_apart() {
        // Method and model are enough, whatever the node of the others is.
        let rows = [
            row("score", None, Some("popularity"), ""),
            row("own", Some("popularity"), Some("loss"), ""),
            row("own", Some("markov"), Some("loss"), ""),
        ];
        assert_eq!(
            named(&rows),
            [
                "`popularity`",
                "`loss` on `popularity`",
                "`loss` on `markov`"
            ]
        );
        // The node where the model does not tell, then the axes.
        let rows = [
            row("score", Some("markov"), Some("loss"), ""),
            row("own", Some("markov"), Some("loss"), "k=1"),
            row("own", Some("markov"), Some("loss"), "k=2"),
        ];
        assert_eq!(
            named(&rows),
            [
                "`loss` on `markov` by node `score`",
                "`loss` on `markov` by node `own` with k=1",
                "`loss` on `markov` by node `own` with k=2"
            ]
        );
        // One has a model and the other none.
        let rows = [
            row("score", None, Some("loss"), ""),
            row("own", Some("markov"), Some("loss"), ""),
        ];
        assert_eq!(
            named(&rows),
            ["`loss` by node `score`", "`loss` on `markov`"]
        );
    }
}
