//! The cleaned log as columns, with items and users as numbers.

use std::collections::HashMap;
use std::path::Path;

use stage::{Exit, Failure, Progress};
use tables::{CleanEvent, Event, shortlex};

/// Events grouped by user, in the order of the table `events`.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Users in shortlex order.
    pub(crate) users: Vec<String>,
    /// Bounds of each user's events: user `u` has `starts[u]..starts[u + 1]`.
    pub(crate) starts: Vec<usize>,
    /// Item identities in order of first appearance.
    pub(crate) items: Vec<String>,
    /// Number into `items`, per event.
    pub(crate) item: Vec<u32>,
    /// Milliseconds UTC, per event; the position within the user where the log has no instants.
    pub(crate) at: Vec<i64>,
    /// Whether `at` holds instants.
    pub(crate) has_instants: bool,
    /// What was done, per event.
    pub(crate) event: Vec<Event>,
    /// Session, per event.
    pub(crate) session: Vec<u32>,
    /// Price in 1/10,000, per event.
    pub(crate) price_e4: Vec<Option<i64>>,
    /// Identity, per event.
    pub(crate) sample_id: Vec<u64>,
}

impl Log {
    /// Events.
    pub(crate) fn len(&self) -> usize {
        self.item.len()
    }

    /// Range of a user's events.
    pub(crate) fn range(&self, user: usize) -> std::ops::Range<usize> {
        self.starts[user]..self.starts[user + 1]
    }

    /// Reads the table `events` and refuses what breaks its promises.
    pub(crate) fn read(
        directory: &Path,
        progress: impl FnOnce(u64) -> Progress,
    ) -> Result<Self, Failure> {
        let rows = tables::rows::<CleanEvent>(directory).map_err(Failure::data)?;
        let mut progress = progress(rows.n_rows());
        let mut log = Self::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut n_instants = 0_usize;
        for row in rows {
            let row = row.map_err(Failure::data)?;
            if log.users.last() != Some(&row.user_id) {
                if let Some(last) = log.users.last()
                    && shortlex(last, &row.user_id).is_gt()
                {
                    return Err(unsorted(directory, &row));
                }
                log.starts.push(log.len());
                log.users.push(row.user_id.clone());
            }
            let start = log.starts.last().copied().unwrap_or(0);
            let at = match row.occurred_at {
                Some(instant) => {
                    n_instants += 1;
                    instant.0
                }
                None => i64::try_from(log.len() - start).unwrap_or(i64::MAX),
            };
            let last = log.at.last().copied().zip(log.sample_id.last().copied());
            // Without instants the identities alone keep the order.
            let this = (at, row.sample_id);
            let falls = |last: (i64, u64)| {
                last > this || (row.occurred_at.is_none() && last.1 > row.sample_id)
            };
            if log.len() > start && last.is_some_and(falls) {
                return Err(unsorted(directory, &row));
            }
            let next = log.items.len();
            let item = if let Some(item) = numbers.get(&row.item_id) {
                *item
            } else {
                let item = u32::try_from(next).map_err(Failure::data)?;
                numbers.insert(row.item_id.clone(), item);
                log.items.push(row.item_id);
                item
            };
            log.item.push(item);
            log.at.push(at);
            log.event.push(row.event);
            log.session.push(row.session);
            log.price_e4.push(row.price_e4);
            log.sample_id.push(row.sample_id);
            progress.advance(1);
        }
        log.starts.push(log.len());
        if n_instants != 0 && n_instants != log.len() {
            return Err(Failure::new(
                Exit::Data,
                format!(
                    "{} of {} events in `{}` have no instant",
                    log.len() - n_instants,
                    log.len(),
                    directory.display()
                ),
            )
            .hint("drop them in `preprocess`, or use a log in which none has one"));
        }
        if log.len() == 0 {
            return Err(Failure::new(
                Exit::Data,
                format!("`{}` holds no events", directory.display()),
            )
            .hint("look at the audit of `preprocess`: which step dropped them?"));
        }
        log.has_instants = n_instants > 0;
        Ok(log)
    }
}

fn unsorted(directory: &Path, row: &CleanEvent) -> Failure {
    Failure::new(
        Exit::Data,
        format!(
            "events in `{}` are not sorted by user, instant and sample id: see sample {} of user `{}`",
            directory.display(),
            row.sample_id,
            row.user_id
        ),
    )
    .hint("make them with `preprocess`")
}
