//! Everything that a report speaks of, read from the artifacts that were wired to it.

use std::collections::{BTreeMap, BTreeSet};

use stage::{Absent, Exit, Failure, Io, Label};
use tables::{
    Audit, Conclusion, Latency, Measured, MethodCard, Metric, Part, PerRequest, ProfileEntry,
    ReadError, Reject, Score, TrainingEpoch,
};

use crate::chart::Histogram;
use crate::results::Results;

/// Bins of a distribution of scores.
const N_BINS: usize = 40;

/// Most scores of one method that are held at once; of more, every second, fourth, ... is kept.
const MOST_SCORES: usize = 1 << 20;

/// Most line numbers that are listed for one reason of refusal.
const MOST_LINES: usize = 12;

/// One method with its card and its scores at a glance.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    /// Place on the axes; `node` among them.
    pub(crate) label: Label,
    /// What the method says of itself.
    pub(crate) card: MethodCard,
    /// Its scores; `None` if it scored nothing.
    pub(crate) distribution: Option<Histogram>,
    /// Of how many scores the distribution holds one.
    pub(crate) stride: usize,
    /// Median of the standard errors of as many; `None` where none is known.
    pub(crate) std_error: Option<f64>,
}

/// Epochs of one model.
#[derive(Clone, Debug)]
pub(crate) struct Trained {
    /// Place on the axes; `node` among them.
    pub(crate) label: Label,
    /// Epochs.
    pub(crate) epochs: Vec<TrainingEpoch>,
}

/// Refused records of one file and reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused {
    /// How many.
    pub(crate) n: u64,
    /// The first lines.
    pub(crate) lines: Vec<u64>,
    /// What to do about it.
    pub(crate) hint: String,
    /// One record as read, where it is text.
    pub(crate) example: String,
}

/// The figures of one split.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// Place on the axes; `node` among them.
    pub(crate) label: Label,
    /// Figures.
    pub(crate) entries: Vec<ProfileEntry>,
}

/// How the test requests of one node fared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spread {
    /// NDCG@10 by request, ascending.
    pub(crate) ndcg: Vec<(u32, f64)>,
}

impl Spread {
    /// Requests.
    pub(crate) fn n(&self) -> u64 {
        self.ndcg.len() as u64
    }

    /// Requests by NDCG@10: 0, up to 1/4, 1/2, 3/4, 1.
    pub(crate) fn by_ndcg(&self) -> [u64; 5] {
        let mut bins = [0; 5];
        for (_, value) in &self.ndcg {
            let bin = [0.0, 0.25, 0.5, 0.75]
                .iter()
                .filter(|end| value > end)
                .count();
            bins[bin] += 1;
        }
        bins
    }

    /// Requests that fare better, the same and worse than in another one.
    pub(crate) fn against(&self, other: &Self) -> [u64; 3] {
        let others: BTreeMap<u32, f64> = other.ndcg.iter().copied().collect();
        let mut counts = [0; 3];
        for (request, value) in &self.ndcg {
            if let Some(other) = others.get(request) {
                counts[match value.total_cmp(other) {
                    std::cmp::Ordering::Greater => 0,
                    std::cmp::Ordering::Equal => 1,
                    std::cmp::Ordering::Less => 2,
                }] += 1;
            }
        }
        counts
    }
}

/// Everything that a report speaks of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// Roles that were wired.
    pub(crate) given: BTreeSet<&'static str>,
    /// Figures.
    pub(crate) metrics: Vec<Metric>,
    /// Sentences that hold, most important first.
    pub(crate) conclusions: Vec<Conclusion>,
    /// How requests fared, by node and label.
    pub(crate) spreads: BTreeMap<(String, String), Spread>,
    /// Measured costs.
    pub(crate) costs: Vec<Measured>,
    /// Sentences about them, which are measured too.
    pub(crate) cost_conclusions: Vec<Conclusion>,
    /// How fast models answer, with their places. Measured.
    pub(crate) latency: Vec<(Label, Latency)>,
    /// Cleaning steps, in the order of stages.
    pub(crate) audit: Vec<Audit>,
    /// Figures of the split data.
    pub(crate) profiles: Vec<Profile>,
    /// Methods.
    pub(crate) methods: Vec<Scored>,
    /// What was made of scores.
    pub(crate) results: Results,
    /// Models.
    pub(crate) trained: Vec<Trained>,
    /// What was asked for in an axis product and cannot apply, in the order of the labels.
    pub(crate) absent: BTreeSet<Absent>,
    /// Refused records by file and reason.
    pub(crate) refused: BTreeMap<(String, String), Refused>,
}

/// Roles in the order of the description.
pub(crate) const ROLES: [&str; 16] = [
    "metrics",
    "conclusions",
    "per_request",
    "costs",
    "audit",
    "profile",
    "scores",
    "training",
    "rejects",
    "latency",
    "tiers",
    "groups",
    "influences",
    "sensitivity",
    "feature_importance",
    "feature_weights",
];

impl Evidence {
    /// Reads everything that was wired.
    ///
    /// # Errors
    /// If a table is missing or damaged, or holds a number that is not finite.
    pub(crate) fn read(io: &Io) -> Result<Self, Failure> {
        let mut evidence = Self::default();
        for role in ROLES {
            if !io.many(role).is_empty() {
                evidence.given.insert(role);
            }
            evidence.absent.extend(io.absent(role).iter().cloned());
        }
        evidence.read_results(io)?;
        evidence.read_data(io)?;
        for input in io.many("scores") {
            evidence.read_scores(&input.label, &input.path)?;
        }
        for input in io.many("training") {
            let epochs = tables::read_all(&input.path).map_err(Failure::data)?;
            evidence.trained.push(Trained {
                label: input.label.clone(),
                epochs,
            });
        }
        for input in io.many("latency") {
            let rows: Vec<Latency> = tables::read_all(&input.path).map_err(Failure::data)?;
            let rows = rows.into_iter().map(|row| (input.label.clone(), row));
            evidence.latency.extend(rows);
        }
        evidence.results = Results::read(io)?;
        evidence.check_finite()?;
        Ok(evidence)
    }

    fn read_results(&mut self, io: &Io) -> Result<(), Failure> {
        let is_several = io.many("metrics").len() > 1;
        for input in io.many("metrics") {
            let mut metrics: Vec<Metric> = tables::read_all(&input.path).map_err(Failure::data)?;
            if is_several {
                for metric in &mut metrics {
                    let outer = format!("evaluation={}", input.label.to_string().replace(',', ";"));
                    metric.label = [metric.label.as_str(), &outer]
                        .into_iter()
                        .filter(|text| !text.is_empty())
                        .collect::<Vec<_>>()
                        .join(",");
                }
            }
            self.metrics.append(&mut metrics);
        }
        for input in io.many("conclusions") {
            let mut rows = tables::read_all(&input.path).map_err(Failure::data)?;
            self.conclusions.append(&mut rows);
        }
        self.conclusions.sort_by_key(|conclusion| conclusion.rank);
        for input in io.many("costs") {
            let mut rows = tables::read_all(&input.path).map_err(Failure::data)?;
            self.costs.append(&mut rows);
            // Sentences about costs lie beside the costs, where there are any.
            if input.path.join(tables::CONCLUSIONS.file_name()).is_file() {
                let mut rows = tables::read_all(&input.path).map_err(Failure::data)?;
                self.cost_conclusions.append(&mut rows);
            }
        }
        for input in io.many("per_request") {
            for row in tables::rows::<PerRequest>(&input.path).map_err(Failure::data)? {
                self.add_request(row.map_err(Failure::data)?)?;
            }
        }
        Ok(())
    }

    fn add_request(&mut self, row: PerRequest) -> Result<(), Failure> {
        if row.part != Part::Test {
            return Ok(());
        }
        if !(0.0..=1.0).contains(&row.ndcg_10) {
            return Err(not_finite(
                "per_request",
                &format!("NDCG@10 of request {} of `{}`", row.request, row.node),
                row.ndcg_10,
            ));
        }
        let spread = self.spreads.entry((row.node, row.label)).or_default();
        spread.ndcg.push((row.request, row.ndcg_10));
        Ok(())
    }

    fn read_data(&mut self, io: &Io) -> Result<(), Failure> {
        let mut audits: Vec<(usize, Vec<Audit>)> = Vec::new();
        for input in io.many("audit") {
            let mut steps: Vec<Audit> = tables::read_all(&input.path).map_err(Failure::data)?;
            steps.sort_by_key(|step| step.step);
            let stage = steps.first().map_or("", |step| step.stage.as_str());
            let order = ["ingest", "preprocess", "split"]
                .iter()
                .position(|known| *known == stage)
                .unwrap_or(3);
            audits.push((order, steps));
        }
        audits.sort_by_key(|(order, _)| *order);
        self.audit = audits.into_iter().flat_map(|(_, steps)| steps).collect();
        for input in io.many("profile") {
            self.profiles.push(Profile {
                label: input.label.clone(),
                entries: tables::read_all(&input.path).map_err(Failure::data)?,
            });
        }
        for input in io.many("rejects") {
            for row in tables::rows::<Reject>(&input.path).map_err(Failure::data)? {
                self.add_reject(row.map_err(Failure::data)?);
            }
        }
        Ok(())
    }

    fn add_reject(&mut self, row: Reject) {
        let refused = self
            .refused
            .entry((row.file, reason_class(&row.reason)))
            .or_default();
        refused.n += 1;
        if refused.lines.len() < MOST_LINES {
            refused.lines.push(row.line);
        }
        if refused.hint.is_empty() {
            refused.hint = row.hint;
        }
        if refused.example.is_empty() {
            refused.example = excerpt(&String::from_utf8_lossy(&row.raw));
        }
    }

    fn read_scores(&mut self, label: &Label, path: &std::path::Path) -> Result<(), Failure> {
        let cards: Vec<MethodCard> = tables::read_all(path).map_err(Failure::data)?;
        let mut samples: BTreeMap<String, Sampled> = BTreeMap::new();
        let mut errors: BTreeMap<String, Sampled> = BTreeMap::new();
        for row in tables::rows::<Score>(path).map_err(Failure::data)? {
            let row = row.map_err(|error: ReadError| Failure::data(error))?;
            let Some(score) = row.score else { continue };
            if !score.is_finite() {
                let what = format!("score of sample {} by `{}`", row.sample_id, row.method);
                return Err(not_finite("scores", &what, score));
            }
            if let Some(error) = row.std_error {
                match errors.get_mut(&row.method) {
                    Some(sampled) => sampled.add(error),
                    None => errors.entry(row.method.clone()).or_default().add(error),
                }
            }
            match samples.get_mut(&row.method) {
                Some(sampled) => sampled.add(score),
                None => samples.entry(row.method).or_default().add(score),
            }
        }
        for card in cards {
            let mut sampled = samples.remove(&card.method).unwrap_or_default();
            sampled.kept.sort_by(f64::total_cmp);
            let mut errors = errors.remove(&card.method).unwrap_or_default().kept;
            errors.sort_by(f64::total_cmp);
            self.methods.push(Scored {
                label: label.clone(),
                distribution: Histogram::of_sorted(&sampled.kept, N_BINS),
                stride: sampled.stride,
                std_error: errors.get(errors.len() / 2).copied(),
                card,
            });
        }
        Ok(())
    }

    fn check_finite(&self) -> Result<(), Failure> {
        for metric in &self.metrics {
            let ends = [Some(metric.value), metric.low, metric.high, metric.p_value];
            for value in ends.into_iter().flatten() {
                if !value.is_finite() {
                    let what = format!("`{}` of node `{}`", metric.metric, metric.node);
                    return Err(not_finite("metrics", &what, value));
                }
            }
        }
        for profile in &self.profiles {
            for entry in &profile.entries {
                if !entry.value.is_finite() {
                    let what = format!("`{}` of part `{}`", entry.name, entry.part);
                    return Err(not_finite("profile", &what, entry.value));
                }
            }
        }
        for trained in &self.trained {
            for epoch in &trained.epochs {
                for value in [epoch.loss, epoch.validation].into_iter().flatten() {
                    if !value.is_finite() {
                        let what = format!("epoch {} of `{}`", epoch.epoch, trained.label);
                        return Err(not_finite("training", &what, value));
                    }
                }
            }
        }
        Ok(())
    }
}

fn not_finite(table: &str, what: &str, value: f64) -> Failure {
    Failure::new(
        Exit::Data,
        format!("table `{table}` holds an impossible number"),
    )
    .cause(format!("{what} is {value}"))
    .hint("find the node that made it with `touchstone lineage`, and run it again")
}

/// The class of a reason: what stands in backticks differs from line to line.
fn reason_class(reason: &str) -> String {
    let mut class = String::new();
    for (index, piece) in reason.split('`').enumerate() {
        // Names of columns are worth keeping, values are not.
        let is_name =
            piece.chars().all(|c| c.is_ascii_alphabetic() || c == '_') && !piece.is_empty();
        match (index % 2 == 1, is_name) {
            (false, _) => class.push_str(piece),
            (true, true) => {
                class.push('`');
                class.push_str(piece);
                class.push('`');
            }
            (true, false) => class.push('…'),
        }
    }
    class
}

/// The beginning of a record, on one line.
fn excerpt(text: &str) -> String {
    const MOST: usize = 80;
    let mut excerpt: String = text
        .trim_end()
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.trim_end().chars().count() > MOST {
        excerpt.push('…');
    }
    excerpt
}

/// Every `stride`-th of many values, in bounded memory.
#[derive(Clone, Debug)]
struct Sampled {
    kept: Vec<f64>,
    stride: usize,
    n: usize,
}

impl Default for Sampled {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            stride: 1,
            n: 0,
        }
    }
}

impl Sampled {
    fn add(&mut self, value: f64) {
        if self.n.is_multiple_of(self.stride) {
            if self.kept.len() == MOST_SCORES {
                let mut index = 0;
                self.kept.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
            if self.n.is_multiple_of(self.stride) {
                self.kept.push(value);
            }
        }
        self.n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_classed_without_their_values() {
        assert_eq!(
            reason_class("column `UnitPrice` is negative: `-11062.06`"),
            "column `UnitPrice` is negative: …"
        );
        assert_eq!(reason_class("broken quote"), "broken quote");
    }

    #[test]
    fn many_scores_are_thinned_evenly() {
        let mut sampled = Sampled::default();
        for value in 0..(3 * MOST_SCORES) {
            sampled.add(value as f64);
        }
        assert_eq!(sampled.stride, 4);
        assert_eq!(sampled.kept.len(), 3 * MOST_SCORES / 4);
        let is_even = sampled
            .kept
            .iter()
            .enumerate()
            .all(|(index, value)| value.total_cmp(&(4.0 * index as f64)).is_eq());
        assert!(is_even);
    }
}
