//! What optional inputs know of samples, items, users and requests: names, kinds of events, histories.

use std::collections::{BTreeMap, BTreeSet};

use attribution::Samples;
use stage::{Exit, Failure, Io};
use tables::{
    CatalogueEntry, Event, ItemFeatures, Request, Row, Sample, SequenceEvent, UserFeatures,
};

/// Names of things; what no input knows of is `None`.
pub(crate) struct Context<'p> {
    /// Facts of the probe.
    pub(crate) samples: &'p Samples,
    /// What was done, by position of the sample.
    events: Option<Vec<Event>>,
    /// Identities of users, by sequence.
    users: BTreeMap<u32, String>,
    /// Identities of items, by number.
    items: BTreeMap<u32, String>,
    features: BTreeMap<u32, ItemFeatures>,
}

const OTHER_SPLIT: &str = "wire outputs of the `split` node that the probed model was trained on";

impl<'p> Context<'p> {
    /// Reads what is wired.
    pub(crate) fn read(io: &Io, samples: &'p Samples) -> Result<Self, Failure> {
        let users = optional::<UserFeatures>(io, "user_features")?;
        let items = optional::<CatalogueEntry>(io, "catalogue")?;
        let features = optional::<ItemFeatures>(io, "item_features")?;
        Ok(Self {
            samples,
            events: events(io, samples)?,
            users: users.map(|user| (user.sequence, user.user_id)).collect(),
            items: items.map(|item| (item.item, item.item_id)).collect(),
            features: features.map(|item| (item.item, item)).collect(),
        })
    }

    /// The identity of a user.
    pub(crate) fn user(&self, sequence: u32) -> Option<String> {
        self.users.get(&sequence).cloned()
    }

    /// The title of an item, or else its identity.
    pub(crate) fn item(&self, item: u32) -> Option<String> {
        let title = self.features.get(&item).and_then(|item| item.title.clone());
        title.or_else(|| self.items.get(&item).cloned())
    }

    /// The category of an item.
    pub(crate) fn category(&self, item: u32) -> Option<&str> {
        self.features.get(&item)?.category.as_deref()
    }

    /// The brand of an item.
    pub(crate) fn brand(&self, item: u32) -> Option<&str> {
        self.features.get(&item)?.brand.as_deref()
    }

    /// What was done at a sample, by its position.
    pub(crate) fn event(&self, at: usize) -> Option<&'static str> {
        self.events.as_ref().map(|events| events[at].as_str())
    }
}

/// All rows of an optional input; none where it is not wired.
fn optional<R: Row>(io: &Io, role: &str) -> Result<impl Iterator<Item = R>, Failure> {
    let rows = match io.optional(role) {
        Some(directory) => tables::read_all::<R>(directory).map_err(Failure::data)?,
        None => Vec::new(),
    };
    Ok(rows.into_iter())
}

/// The event of each sample: the table has the order of the probe.
fn events(io: &Io, samples: &Samples) -> Result<Option<Vec<Event>>, Failure> {
    let Some(directory) = io.optional("samples") else {
        return Ok(None);
    };
    let mut events = Vec::with_capacity(samples.len());
    for row in tables::rows::<Sample>(directory).map_err(Failure::data)? {
        let row = row.map_err(Failure::data)?;
        if samples.id.get(events.len()) != Some(&row.sample_id) {
            return Err(other_samples(row.sample_id));
        }
        events.push(row.event);
    }
    match samples.id.get(events.len()) {
        Some(&missing) => Err(other_samples(missing)),
        None => Ok(Some(events)),
    }
}

fn other_samples(sample_id: u64) -> Failure {
    let message = format!("`samples` and the probe do not hold the same samples: see {sample_id}");
    Failure::new(Exit::Data, message).hint(OTHER_SPLIT)
}

/// Histories of some users, and where requests stand in them.
#[derive(Default)]
pub(crate) struct Histories {
    /// User and length of the history, by request.
    requests: BTreeMap<u32, (u32, u32)>,
    /// Items and instants of the events of each user, in order.
    sequences: BTreeMap<u32, Vec<(u32, Option<i64>)>>,
}

impl Histories {
    /// Reads these requests, and the events of their users and of these others.
    pub(crate) fn read(io: &Io, requests: &[u32], users: &BTreeSet<u32>) -> Result<Self, Failure> {
        let mut found = Self::default();
        for row in optional::<Request>(io, "requests")? {
            if requests.contains(&row.request) {
                found
                    .requests
                    .insert(row.request, (row.sequence, row.history_end));
            }
        }
        let Some(directory) = io.optional("sequences") else {
            return Ok(found);
        };
        let of_requests = found.requests.values().map(|(sequence, _)| *sequence);
        let wanted: BTreeSet<u32> = of_requests.chain(users.iter().copied()).collect();
        for row in tables::rows::<SequenceEvent>(directory).map_err(Failure::data)? {
            let row = row.map_err(Failure::data)?;
            if wanted.contains(&row.sequence) {
                let events = found.sequences.entry(row.sequence).or_default();
                events.push((row.item, row.occurred_at.map(|at| at.0)));
            }
        }
        Ok(found)
    }

    /// The user of a request; `None` where `requests` are not wired.
    pub(crate) fn user(&self, request: u32) -> Option<u32> {
        self.requests.get(&request).map(|(user, _)| *user)
    }

    /// The events of a request's history; `None` where `requests` or `sequences` are not wired.
    pub(crate) fn of_request(&self, request: u32) -> Option<&[(u32, Option<i64>)]> {
        let (user, length) = self.requests.get(&request)?;
        self.of_user(*user, *length)
    }

    /// The first events of a user.
    pub(crate) fn of_user(&self, user: u32, length: u32) -> Option<&[(u32, Option<i64>)]> {
        self.sequences.get(&user)?.get(..length as usize)
    }
}
