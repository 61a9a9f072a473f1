//! The probes of one node: one model, or trainings of one model that differ in their seed.
//!
//! `probe` is one model. `probes` gathers members of an ensemble: an axis that only their producer has
//! arrives whole. That they are of one kind of model, and look at the same samples and requests, is read
//! from the probes themselves.

use std::path::Path;

use attribution::{Problem, Samples, Target};
use serde::Deserialize;
use stage::{Exit, Failure, Io, Labelled, Offer, Offers};

/// The role of one model.
pub(crate) const ONE: &str = "probe";
/// The role of an ensemble.
pub(crate) const SEVERAL: &str = "probes";

const CARD: &str = "probe.json";
/// The file by which a part of a probe says that it is one, and the fact that says so before.
const SHARD: (&str, &str) = ("shard.json", "shard");

/// What a probe says of itself.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Card {
    model: String,
    parameters: serde_json::Value,
}

/// What the wired probes offer, in the order of their labels; `None` where a person checks a
/// configuration alone.
pub(crate) fn offered(offers: &Offers) -> Result<Option<&[Offer]>, Failure> {
    if offers.is_empty() {
        return Ok(None);
    }
    let of = |role: &str| offers.get(role).map_or(&[][..], Vec::as_slice);
    let found = chosen(of(ONE), of(SEVERAL))?;
    if let Some(shard) = found.iter().find_map(|offer| offer.facts.get(SHARD.1)) {
        return Err(part_of_a_probe(&format!("shard `{shard}`")));
    }
    if let Some((a, b)) = differing(found, |offer| offer.facts.get("model")) {
        return Err(other_model(a, b));
    }
    Ok(Some(found))
}

/// The probes to read, in the order of their labels.
pub(crate) fn wired(io: &Io) -> Result<&[Labelled], Failure> {
    let found = chosen(io.many(ONE), io.many(SEVERAL))?;
    if let Some(part) = found
        .iter()
        .find(|member| member.path.join(SHARD.0).is_file())
    {
        let path = part.path.display();
        return Err(part_of_a_probe(&format!("`{path}` is a shard, which")));
    }
    if found.len() > 1 {
        let cards: Vec<Card> = found
            .iter()
            .map(|member| card(&member.path))
            .collect::<Result<_, _>>()?;
        if let Some((a, b)) = differing(&cards, |card| Some(&card.model)) {
            return Err(other_model(a, b));
        }
        if let Some((a, b)) = differing(&cards, |card| Some(&card.parameters)) {
            return Err(other_model(&a.to_string(), &b.to_string()));
        }
    }
    Ok(found)
}

/// The one role that is wired.
fn chosen<'a, T>(one: &'a [T], several: &'a [T]) -> Result<&'a [T], Failure> {
    match (one, several) {
        ([], []) => Err(
            Failure::new(Exit::Configuration, "input `probe` is missing").hint(
                "wire the output `probe` of a node of mode `probe`, or several of them to `probes`",
            ),
        ),
        ([], found) | (found, []) => Ok(found),
        _ => Err(
            Failure::new(Exit::Configuration, "`probe` and `probes` are both wired")
                .hint("wire one model to `probe`, or members of an ensemble to `probes`"),
        ),
    }
}

/// The first two neighbours that do not say the same.
fn differing<'a, T, F: PartialEq>(
    members: &'a [T],
    fact: impl Fn(&'a T) -> Option<&'a F>,
) -> Option<(&'a F, &'a F)> {
    let pairs = members.windows(2);
    let mut said = pairs.filter_map(|pair| fact(&pair[0]).zip(fact(&pair[1])));
    said.find(|(a, b)| a != b)
}

fn card(directory: &Path) -> Result<Card, Failure> {
    let path = directory.join(CARD);
    let wrong = |error: String| {
        Failure::new(Exit::Data, format!("failed to read `{}`", path.display()))
            .cause(error)
            .hint("run the node that made the probe again")
    };
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// Parts of a probe are no members of an ensemble.
fn part_of_a_probe(what: &str) -> Failure {
    Failure::new(
        Exit::Configuration,
        format!("{what} holds a part of the samples alone"),
    )
    .hint("put all shards together first, in mode `merge` of `train`")
}

fn other_model(a: &str, b: &str) -> Failure {
    Failure::new(
        Exit::Configuration,
        format!("`probes` gathers different models: `{a}` and `{b}`"),
    )
    .hint("members of an ensemble differ in their seed alone: select one model, such as `\"probe[model=sasrec].probe\"`")
}

/// What all members share.
pub(crate) struct Shared {
    samples: Samples,
    target: Target,
}

impl Shared {
    pub(crate) fn of(problem: &dyn Problem) -> Self {
        Self {
            samples: problem.samples().clone(),
            target: problem.target().clone(),
        }
    }

    /// Refuses a member that looks at other samples or requests.
    pub(crate) fn check(&self, member: &Labelled, problem: &dyn Problem) -> Result<(), Failure> {
        let of_requests = |target: &Target| -> Vec<(u32, Vec<u32>)> {
            let requests = target.requests.iter();
            requests
                .map(|request| (request.request, request.relevant.clone()))
                .collect()
        };
        let what = if *problem.samples() != self.samples {
            "samples"
        } else if of_requests(problem.target()) != of_requests(&self.target) {
            "requests"
        } else {
            return Ok(());
        };
        let message = format!(
            "probe [{}] looks at other {what} than the first",
            member.label
        );
        Err(Failure::new(Exit::Data, message)
            .hint("wire probes of models that were trained on outputs of one `split` node"))
    }
}
