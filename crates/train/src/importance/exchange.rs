//! Permutation importance: how much worse requests are served when one thing is exchanged.
//!
//! # Paper
//! Breiman, "Random forests", Machine Learning 45, 2001, section 10; Fisher, Rudin and Dominici, "All
//! models are wrong, but many are useful", JMLR 2019, equation 3, by sampled permutations.
//!
//! # Departures
//! Values are exchanged between the drawn requests (and, for features of a history and a candidate, also
//! between candidates), so a feature keeps its distribution but not what it shares with others: two
//! features that tell the same may both seem dispensable, or the model may be asked about what never
//! occurs.

use models::{Exchange, Exchanged, ExchangedFeatures, FeatureGroup, History, Model, Seed};
use rayon::prelude::*;
use stage::{Failure, Io};
use tables::{Event, ProbeFeature, Request};

use super::Asked;
use crate::rank::{BLOCK, RankError, Ranker};
use crate::watch::ndcg;

/// Method of the table: the drop of NDCG@10.
const NDCG: &str = "permutation_ndcg";
/// Method of the table: the rise of the loss.
const LOSS: &str = "permutation_loss";

/// How requests are served.
struct Served {
    ndcg: Vec<f64>,
    /// Mean loss over relevant items, if the model has one.
    loss: Option<Vec<f64>>,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

impl Asked<'_> {
    fn ranker<'m>(&'m self, model: &'m dyn Model) -> Ranker<'m> {
        Ranker {
            model,
            catalogue: self.catalogue,
            seen: crate::config::Seen::Keep,
            top: 0,
        }
    }

    /// Serves all requests with given histories.
    fn served(&self, model: &dyn Model, histories: &[History<'_>]) -> Result<Served, Failure> {
        let of = |request: &Request| {
            let at = self
                .requests
                .binary_search_by_key(&request.request, |other| other.request);
            at.map(|at| histories[at]).unwrap_or_default()
        };
        let ranker = self.ranker(model);
        let mut values = Vec::with_capacity(self.requests.len());
        for block in self.requests.chunks(BLOCK) {
            let rows = ranker.rank_all(block, of).map_err(Failure::computation)?;
            values.extend(rows.iter().map(ndcg));
        }
        let lists: Vec<(History<'_>, &[u32])> = histories
            .iter()
            .zip(self.requests)
            .map(|(history, request)| (*history, request.relevant.as_slice()))
            .collect();
        let losses = model.losses().map(|losses| losses.request_losses(&lists));
        Ok(Served {
            ndcg: values,
            loss: losses.map(|losses| losses.iter().map(|of| mean(of)).collect()),
        })
    }

    /// What an exchange did to each request.
    fn push(
        &self,
        rows: &mut Vec<ProbeFeature>,
        (group, feature, repeat): (FeatureGroup, &str, u32),
        before: &Served,
        after: &Served,
    ) {
        let mut push =
            |method: &str, values: &mut dyn Iterator<Item = f64>| {
                rows.extend(self.requests.iter().zip(values).map(|(request, value)| {
                    ProbeFeature {
                        method: method.to_owned(),
                        group: group.as_str().to_owned(),
                        feature: feature.to_owned(),
                        repeat,
                        request: request.request,
                        value,
                    }
                }));
            };
        let drops = before.ndcg.iter().zip(&after.ndcg);
        push(NDCG, &mut drops.map(|(before, after)| before - after));
        if let (Some(before), Some(after)) = (&before.loss, &after.loss) {
            let rises = before.iter().zip(after);
            push(LOSS, &mut rises.map(|(before, after)| after - before));
        }
    }
}

/// The rows of all exchanges.
pub(super) fn rows(asked: &Asked<'_>, io: &Io) -> Result<Vec<ProbeFeature>, Failure> {
    let histories = asked.histories();
    let whats = whats(asked, &histories);
    let items = asked.model.exchanged_items();
    let names = items.map_or_else(Vec::new, models::ExchangedItems::names);
    let features = asked.model.exchanged_features();
    let n_repeats = asked.how.repeats;
    let n_exchanges = whats.len() + names.len() + usize::from(features.is_some());
    let mut progress = io.progress(
        "exchanging features",
        n_exchanges as u64 * u64::from(n_repeats),
    );
    let mut rows = Vec::new();
    let before = asked.served(asked.model, &histories)?;
    for repeat in 0..n_repeats {
        let seed = asked.seed.child("exchange").index(u64::from(repeat));
        for &what in &whats {
            let (group, name) = (what.group(), what.name());
            let exchanged = Exchanged::new(&histories, what, of(seed, group, &name));
            let others: Vec<History<'_>> = (0..histories.len())
                .map(|at| exchanged.history(at))
                .collect();
            let after = asked.served(asked.model, &others)?;
            asked.push(&mut rows, (group, &name, repeat), &before, &after);
            progress.advance(1);
        }
        for name in &names {
            let group = FeatureGroup::Input;
            let other = items.and_then(|items| items.exchanged(name, of(seed, group, name)));
            if let Some(other) = other {
                let after = asked.served(other.as_ref(), &histories)?;
                asked.push(&mut rows, (group, name, repeat), &before, &after);
            }
            progress.advance(1);
        }
        if let Some(features) = features {
            let all = all_features(asked, features, &histories, seed)?;
            for (name, after) in features.names().into_iter().zip(&all[1..]) {
                let place = (FeatureGroup::Feature, name, repeat);
                asked.push(&mut rows, place, &all[0], after);
            }
            progress.advance(1);
        }
    }
    Ok(rows)
}

/// Chance of one exchange: features do not share permutations.
fn of(seed: Seed, group: FeatureGroup, name: &str) -> Seed {
    seed.child(group.as_str()).child(name)
}

/// What is exchanged in histories: what they hold.
fn whats(asked: &Asked<'_>, histories: &[History<'_>]) -> Vec<Exchange> {
    let held: std::collections::BTreeSet<&str> = histories
        .iter()
        .flat_map(|history| (0..history.len()).filter_map(|at| history.event(at)))
        .map(Event::as_str)
        .collect();
    let mut all = vec![Exchange::Items];
    let of_types = Event::ALL
        .iter()
        .filter(|event| held.contains(event.as_str()));
    let of_types: Vec<Exchange> = of_types.map(|event| Exchange::ItemsOf(*event)).collect();
    if of_types.len() > 1 {
        all.push(Exchange::Events);
    }
    let has_baskets = histories
        .iter()
        .any(|history| (0..history.len()).any(|at| history.place(at) > 0));
    if has_baskets {
        all.push(Exchange::Baskets);
    }
    all.extend((1..=asked.how.places as usize).map(Exchange::Place));
    all.extend(of_types);
    all
}

/// How requests are served with nothing exchanged, and then with each feature in turn.
fn all_features(
    asked: &Asked<'_>,
    features: &dyn ExchangedFeatures,
    histories: &[History<'_>],
    seed: Seed,
) -> Result<Vec<Served>, Failure> {
    let seed = seed.child(FeatureGroup::Feature.as_str());
    let mut partners: Vec<usize> = (0..histories.len()).collect();
    seed.child("requests").sequence().shuffle(&mut partners);
    let n_items = u32::try_from(asked.catalogue.n()).unwrap_or(u32::MAX);
    let mut order: Vec<u32> = (0..n_items).collect();
    seed.child("candidates").sequence().shuffle(&mut order);
    let n = features.names().len() + 1;
    let ranker = asked.ranker(asked.model);
    // By request, then by feature.
    let found: Result<Vec<Vec<(f64, f64)>>, RankError> =
        (0..histories.len())
            .into_par_iter()
            .map(|at| {
                let request = &asked.requests[at];
                let (own, other) = (histories[at], histories[partners[at]]);
                let mut served = Vec::with_capacity(n);
                let mut failed = None;
                let mut take = |_: Option<usize>, scores: &[f64], loss: f64| match ranker
                    .rank_scores(request, own.items(), &mut scores.to_vec())
                {
                    Ok(row) => served.push((ndcg(&row), loss)),
                    Err(error) => failed = Some(error),
                };
                features.exchanged(own, other, &order, &request.relevant, &mut take);
                failed.map_or(Ok(served), Err)
            })
            .collect();
    let found = found.map_err(Failure::computation)?;
    Ok((0..n)
        .map(|feature| Served {
            ndcg: found.iter().map(|of| of[feature].0).collect(),
            loss: Some(found.iter().map(|of| of[feature].1).collect()),
        })
        .collect())
}
