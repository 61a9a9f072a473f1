//! Which samples matter most to single requests, and why.

use std::collections::BTreeSet;

use attribution::{Asked, Influential, OfRequest, Prepared, Problem, Seed};
use serde::{Deserialize, Serialize};
use stage::{Exit, Failure, Io};
use tables::Influence;

use crate::config::Config;
use crate::context::{Context, Histories};
use crate::run::failure;

/// Shared items that a reason names.
const NAMED: usize = 3;

/// How many requests are looked into, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Influences {
    /// Requests of the target, drawn by lot among those with a gradient.
    pub requests: usize,
    /// Most helpful and most harmful samples of each.
    pub top: usize,
}

impl Default for Influences {
    fn default() -> Self {
        Self {
            requests: 20,
            top: 10,
        }
    }
}

impl Influences {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for (name, value) in [("requests", self.requests), ("top", self.top)] {
            if value == 0 {
                let message = format!("`influences.{name}` is 0: nothing would be listed");
                return Err(Failure::new(Exit::Configuration, message)
                    .hint("write a number from 1 up, such as 10"));
            }
        }
        Ok(())
    }
}

/// Writes the table of influences: without rows for a method that knows the mean over requests alone.
pub(crate) fn write(
    io: &Io,
    config: &Config,
    asked: Influences,
    method: &Prepared,
    problem: &dyn Problem,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let seed = Seed::root(config.seed).child("estimate");
    let entry = method.entry();
    let mut rows = Vec::new();
    if entry.answers_requests {
        let requests =
            draw(problem, asked.requests, seed).map_err(|error| failure(error, config))?;
        let asked = Asked {
            requests: &requests,
            top: asked.top,
        };
        let found = method
            .influences(problem, asked, seed)
            .map_err(|error| failure(error, config))?
            .unwrap_or_default();
        let users: BTreeSet<u32> = samples_of(&found)
            .map(|sample| problem.samples().sequence[sample.sample as usize])
            .collect();
        let told = Told {
            method: entry.name,
            problem,
            context,
            histories: &Histories::read(io, &requests, &users)?,
            layers: layers(problem),
        };
        for of in &found {
            for (is_helpful, samples) in [(true, &of.helpful), (false, &of.harmful)] {
                let ranked = (0..).zip(samples);
                rows.extend(
                    ranked.map(|(rank, sample)| told.row(of.request, is_helpful, rank, sample)),
                );
            }
        }
    } else {
        io.note(&format!(
            "`{}` knows the mean over requests alone: no influences of single requests",
            entry.name
        ));
    }
    tables::write_all(&io.output("influences")?, rows).map_err(Failure::environment)?;
    Ok(())
}

fn samples_of(found: &[OfRequest]) -> impl Iterator<Item = &Influential> {
    found
        .iter()
        .flat_map(|of| of.helpful.iter().chain(&of.harmful))
}

fn layers(problem: &dyn Problem) -> Vec<String> {
    let layers = problem.projected().map_or(&[][..], |rows| rows.layers());
    layers.iter().map(|layer| layer.name.clone()).collect()
}

/// Requests of the target with a gradient, drawn by lots that depend on seed and number alone; ascending.
fn draw(
    problem: &dyn Problem,
    most: usize,
    seed: Seed,
) -> Result<Vec<u32>, attribution::EstimatorError> {
    let Some(projected) = problem.projected() else {
        return Ok(Vec::new());
    };
    let fitted = projected.states().len().saturating_sub(1);
    let mut numbers = projected.requests(fitted)?.numbers;
    let lots = seed.child("influences").stream();
    numbers.sort_by_key(|&number| (lots.bits(u64::from(number), 0), number));
    numbers.truncate(most);
    numbers.sort_unstable();
    Ok(numbers)
}

/// Everything that rows are told from.
struct Told<'a> {
    method: &'a str,
    problem: &'a dyn Problem,
    context: &'a Context<'a>,
    histories: &'a Histories,
    layers: Vec<String>,
}

impl Told<'_> {
    fn row(&self, request: u32, is_helpful: bool, rank: u32, of: &Influential) -> Influence {
        let samples = self.problem.samples();
        let at = of.sample as usize;
        let (item, user) = (samples.item[at], samples.sequence[at]);
        let mut asked = self.problem.target().requests.iter();
        let mut row = Influence {
            method: self.method.to_owned(),
            request,
            is_helpful,
            rank,
            sample_id: samples.id[at],
            score: of.score,
            item,
            item_name: self.context.item(item),
            is_same_target: asked
                .any(|asked| asked.request == request && asked.relevant.contains(&item)),
            is_same_user: self.histories.user(request).map(|other| other == user),
            is_in_last_basket: None,
            shared_items: Vec::new(),
            layers: self.layers.clone(),
            layer_scores: of.by_layer.clone(),
            reason: String::new(),
        };
        if let Some(history) = self.histories.of_request(request) {
            let is_same_user = row.is_same_user == Some(true);
            let place = samples.history_length[at] as usize;
            let is_in = is_same_user && is_last(history, samples.occurred_at[at], place);
            row.is_in_last_basket = Some(is_in);
            let own = self.histories.of_user(user, samples.history_length[at]);
            row.shared_items = shared(history, own.unwrap_or(&[]));
        }
        row.reason = self.reason(&row);
        row
    }

    /// What a person would say of it.
    fn reason(&self, row: &Influence) -> String {
        let name = |item: u32| {
            let known = self.context.item(item);
            known.unwrap_or_else(|| format!("item {item}"))
        };
        let mut parts = Vec::new();
        if row.is_same_target {
            parts.push(format!("trains on what is asked for, {}", name(row.item)));
        }
        if row.is_in_last_basket == Some(true) {
            parts.push("in the last basket of the request".to_owned());
        } else if row.is_same_user == Some(true) {
            parts.push("same user".to_owned());
        }
        if !row.shared_items.is_empty() {
            let n = row.shared_items.len();
            let named: Vec<String> = row
                .shared_items
                .iter()
                .take(NAMED)
                .copied()
                .map(name)
                .collect();
            let more = match n.saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let items = if n == 1 { "item" } else { "items" };
            parts.push(format!(
                "{n} {items} in both histories: {}{more}",
                named.join(" / ")
            ));
        }
        if parts.is_empty() {
            parts.push("nothing in common that the inputs know of".to_owned());
        }
        if let Some((layer, share)) = leading(&row.layers, &row.layer_scores, row.score) {
            parts.push(format!("{:.0} % of it in `{layer}`", 100.0 * share));
        }
        parts.join("; ")
    }
}

/// Whether an event is of the last basket of its user's history: at its instant, or where the log has
/// only an order the last event itself.
fn is_last(history: &[(u32, Option<i64>)], at: Option<i64>, place: usize) -> bool {
    match (history.last(), at) {
        (Some((_, Some(last))), Some(at)) => *last == at,
        (Some((_, None)), None) => place + 1 == history.len(),
        _ => false,
    }
}

/// Distinct items of both, those that the first one saw last first.
fn shared(history: &[(u32, Option<i64>)], other: &[(u32, Option<i64>)]) -> Vec<u32> {
    let of_other: BTreeSet<u32> = other.iter().map(|(item, _)| *item).collect();
    let mut seen = BTreeSet::new();
    let latest = history.iter().rev().map(|(item, _)| *item);
    latest
        .filter(|item| of_other.contains(item) && seen.insert(*item))
        .collect()
}

/// The layer that adds most in the direction of the score, and its share of what all layers add in
/// either direction.
fn leading<'l>(layers: &'l [String], added: &[f64], score: f64) -> Option<(&'l str, f64)> {
    let total: f64 = added.iter().map(|part| part.abs()).sum();
    let sign = 1.0_f64.copysign(score);
    let pairs = layers.iter().zip(added);
    let (layer, part) = pairs.max_by(|(_, a), (_, b)| (sign * *a).total_cmp(&(sign * *b)))?;
    let share = sign * part / total;
    (share > 0.0).then_some((layer.as_str(), share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_items_are_distinct_and_the_latest_come_first() {
        let history = [(3, Some(1)), (5, Some(2)), (3, Some(3)), (8, Some(3))];
        let other = [(8, None), (3, None), (1, None)];
        assert_eq!(shared(&history, &other), [8, 3]);
        assert!(shared(&history, &[]).is_empty());
        assert!(shared(&[], &other).is_empty());
    }

    #[test]
    fn the_last_basket_is_of_one_instant() {
        let history = [(3, Some(1)), (5, Some(2)), (6, Some(2))];
        assert!(is_last(&history, Some(2), 1));
        assert!(!is_last(&history, Some(1), 0));
        assert!(!is_last(&[], Some(1), 0));
        // Without instants it is the last event.
        let history = [(3, None), (5, None)];
        assert!(is_last(&history, None, 1));
        assert!(!is_last(&history, None, 0));
    }

    #[test]
    fn the_leading_layer_pulls_with_the_score() {
        let layers = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(leading(&layers, &[1.0, -2.0, 5.0], 4.0), Some(("c", 0.625)));
        assert_eq!(leading(&layers, &[1.0, -6.0, 1.0], -4.0), Some(("b", 0.75)));
        assert_eq!(leading(&layers, &[0.0; 3], 0.0), None);
        assert_eq!(leading(&[], &[], 1.0), None);
    }
}
