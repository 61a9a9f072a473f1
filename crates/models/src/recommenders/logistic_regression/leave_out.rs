//! What a training sample must not see: its own event, and what its sequence did afterwards.
//!
//! A request finds statistics in which everything its own user did lies before it. So that training
//! looks like that, the statistics that a sample sees are those of all other sequences and of the
//! samples of its own sequence with a shorter history. Its own event, those of its basket, which
//! share its history, copies of it and all later ones are left out.

use crate::data::TrainingData;

/// The samples of one sequence as sorted lists of (what, end of the history).
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// By target.
    targets: Vec<(u64, u32)>,
    /// By (last item of the history, target).
    after_last: Vec<(u64, u32)>,
    /// By (item before the last, target).
    after_before: Vec<(u64, u32)>,
    /// By last item of the history.
    lasts: Vec<(u64, u32)>,
    /// Ends of histories.
    ends: Vec<u32>,
}

/// The samples of a sequence whose history is at least so long; none without a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftOut<'a> {
    own: Option<&'a Own>,
    end: u32,
}

/// Two items as one key.
pub(super) fn pair(from: u32, to: u32) -> u64 {
    u64::from(from) << 32 | u64::from(to)
}

/// Last item of a history and the one before it.
pub(super) fn last_two(history: &[u32]) -> (Option<u32>, Option<u32>) {
    let mut back = history.iter().rev().copied();
    (back.next(), back.next())
}

/// Entries of a key from an end on.
fn since(list: &[(u64, u32)], key: u64, end: u32) -> f64 {
    let start = list.partition_point(|entry| *entry < (key, end));
    let n = list[start..].partition_point(|entry| entry.0 == key);
    n as f64
}

impl Own {
    /// The samples of a range, which is that of one sequence.
    pub(super) fn new(data: &TrainingData<'_>, range: std::ops::Range<usize>) -> Self {
        let mut own = Self::default();
        for sample in range {
            let (item, end) = (data.item(sample), data.history_end(sample));
            own.ends.push(end);
            own.targets.push((u64::from(item), end));
            let (last, before) = last_two(data.history(sample).items());
            if let Some(last) = last {
                own.lasts.push((u64::from(last), end));
                own.after_last.push((pair(last, item), end));
            }
            if let Some(before) = before {
                own.after_before.push((pair(before, item), end));
            }
        }
        for list in [
            &mut own.targets,
            &mut own.after_last,
            &mut own.after_before,
            &mut own.lasts,
        ] {
            list.sort_unstable();
        }
        own
    }

    /// What a sample whose history ends there leaves out.
    pub(super) fn left_out(&self, end: u32) -> LeftOut<'_> {
        LeftOut {
            own: Some(self),
            end,
        }
    }

    /// The shortest history with an item as target.
    fn first(&self, item: u32) -> Option<u32> {
        let item = u64::from(item);
        let at = self.targets.partition_point(|entry| entry.0 < item);
        let entry = self.targets.get(at)?;
        (entry.0 == item).then_some(entry.1)
    }
}

impl LeftOut<'_> {
    /// Nothing is left out: what a request sees.
    pub(super) const NOTHING: LeftOut<'static> = LeftOut { own: None, end: 0 };

    fn count(self, list: impl Fn(&Own) -> &[(u64, u32)], key: u64) -> f64 {
        self.own.map_or(0.0, |own| since(list(own), key, self.end))
    }

    /// Samples.
    pub(super) fn samples(self) -> f64 {
        let n = self.own.map_or(0, |own| {
            // Samples of a sequence ascend by the end of their history.
            own.ends.len() - own.ends.partition_point(|end| *end < self.end)
        });
        n as f64
    }

    /// Samples with a target.
    pub(super) fn targets(self, item: u32) -> f64 {
        self.count(|own| &own.targets, u64::from(item))
    }

    /// Samples with a last item of the history and a target.
    pub(super) fn after_last(self, last: u32, item: u32) -> f64 {
        self.count(|own| &own.after_last, pair(last, item))
    }

    /// Samples with an item before the last and a target.
    pub(super) fn after_before(self, before: u32, item: u32) -> f64 {
        self.count(|own| &own.after_before, pair(before, item))
    }

    /// Samples with a last item of the history.
    pub(super) fn lasts(self, last: u32) -> f64 {
        self.count(|own| &own.lasts, u64::from(last))
    }

    /// 1 if the sequence holds an item only by what is left out.
    pub(super) fn held(self, item: u32) -> f64 {
        let first = self.own.and_then(|own| own.first(item));
        f64::from(u8::from(first.is_some_and(|first| first >= self.end)))
    }

    /// 1 if the sequence holds both items, but one of them only by what is left out.
    pub(super) fn held_together(self, a: u32, b: u32) -> f64 {
        let later = self
            .own
            .and_then(|own| Some(own.first(a)?.max(own.first(b)?)));
        f64::from(u8::from(later.is_some_and(|later| later >= self.end)))
    }
}
