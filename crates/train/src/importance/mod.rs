//! Mode `probe` with `feature_importance`: what predictions rest on.
//!
//! Requests with a history and something relevant are drawn by lot from a valuation part. Exchanging the
//! values of a feature asks how much worse the model ranks without what the feature tells, with its
//! distribution kept (`exchange.rs`); gradients ask what the model itself takes from it (`gradients`
//! below). The first needs scores alone, so any model has it.

mod config;
mod exchange;

use std::path::Path;

use models::{History, InputGradients, Model, Seed, Sequences};
use stage::{Exit, Failure, Io};
use tables::{ProbeCompleteness, ProbeFeature, Request};

use crate::config::Config;
use crate::inputs::Catalogue;

pub use config::FeatureImportance;
pub(crate) use config::check;

/// Method of the table: gradient times input.
const GRADIENT: &str = "gradient_x_input";
/// Method of the table: integrated gradients.
const INTEGRATED: &str = "integrated_gradients";

/// What is asked.
struct Asked<'a> {
    model: &'a dyn Model,
    catalogue: &'a Catalogue,
    sequences: &'a Sequences,
    /// Ascending by number.
    requests: &'a [Request],
    how: FeatureImportance,
    seed: Seed,
}

impl<'a> Asked<'a> {
    fn history(&self, request: &Request) -> History<'a> {
        // Every history was seen when the requests were read.
        self.sequences
            .history(request.sequence, request.history_end)
            .unwrap_or_default()
    }

    fn histories(&self) -> Vec<History<'a>> {
        let requests = self.requests.iter();
        requests.map(|request| self.history(request)).collect()
    }
}

/// Writes `probe_features` and, for models with gradients, `probe_completeness`.
pub(crate) fn write(
    config: &Config,
    asked: FeatureImportance,
    (model, catalogue): (&dyn Model, &Catalogue),
    (sequences, requests): (&Sequences, &[Request]),
    io: &Io,
    out: &Path,
) -> Result<(), Failure> {
    let seed = Seed::root(config.seed).child("feature_importance");
    let chosen = drawn(requests, asked, seed);
    if chosen.is_empty() {
        let part = asked.part;
        return Err(Failure::new(
            Exit::Data,
            format!("no request of part `{part}` has a history and a relevant item"),
        )
        .hint("make the part larger with `parts` or `instants` of `split`"));
    }
    let asked = Asked {
        model,
        catalogue,
        sequences,
        requests: &chosen,
        how: asked,
        seed,
    };
    let mut rows = exchange::rows(&asked, io)?;
    if let Some(gradients) = model.input_gradients() {
        let (more, completeness) = attributed(&asked, gradients);
        rows.extend(more);
        tables::write_all(out, completeness).map_err(Failure::environment)?;
    }
    rows.sort_by(|a, b| {
        let key = |row: &ProbeFeature| (row.repeat, row.request);
        (&a.method, &a.group, &a.feature)
            .cmp(&(&b.method, &b.group, &b.feature))
            .then(key(a).cmp(&key(b)))
    });
    tables::write_all(out, rows).map_err(Failure::environment)?;
    Ok(())
}

/// So many requests of the part, by lot, ascending.
fn drawn(requests: &[Request], asked: FeatureImportance, seed: Seed) -> Vec<Request> {
    let lots = seed.child("requests").stream();
    let mut fitting: Vec<&Request> = requests
        .iter()
        .filter(|request| {
            request.part == asked.part && request.history_end > 0 && !request.relevant.is_empty()
        })
        .collect();
    fitting.sort_by_key(|request| (lots.bits(u64::from(request.request), 0), request.request));
    fitting.truncate(asked.requests as usize);
    fitting.sort_by_key(|request| request.request);
    fitting.into_iter().cloned().collect()
}

/// What gradients say of each request. A feature that says nothing of a request adds 0 to it.
fn attributed(
    asked: &Asked<'_>,
    gradients: &dyn InputGradients,
) -> (Vec<ProbeFeature>, Vec<ProbeCompleteness>) {
    let steps = asked.how.steps;
    let lists: Vec<(History<'_>, &[u32])> = asked
        .requests
        .iter()
        .map(|request| (asked.history(request), request.relevant.as_slice()))
        .collect();
    let found = gradients.attribute(&lists, steps);
    let known = || {
        asked
            .requests
            .iter()
            .zip(&found)
            .filter_map(|(r, f)| Some((r, f.as_ref()?)))
    };
    let names: std::collections::BTreeSet<(&str, &str)> = known()
        .flat_map(|(_, found)| &found.features)
        .map(|one| (one.group.as_str(), one.feature.as_str()))
        .collect();
    let mut rows = Vec::new();
    let mut completeness = Vec::new();
    for (request, found) in known() {
        for &(group, feature) in &names {
            let of = found
                .features
                .iter()
                .find(|one| one.group.as_str() == group && one.feature == feature);
            let values = of.map_or([0.0; 2], |one| [one.gradient_x_input, one.integrated]);
            for (method, value) in [GRADIENT, INTEGRATED].into_iter().zip(values) {
                rows.push(ProbeFeature {
                    method: method.to_owned(),
                    group: group.to_owned(),
                    feature: feature.to_owned(),
                    repeat: 0,
                    request: request.request,
                    value,
                });
            }
        }
        completeness.push(ProbeCompleteness {
            request: request.request,
            steps,
            output: found.output,
            baseline: found.baseline,
            sum: found.sum,
            gap: found.gap(),
        });
    }
    (rows, completeness)
}
