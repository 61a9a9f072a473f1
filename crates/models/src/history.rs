//! What is known of events: items, what was done, baskets; histories as prefixes of sequences.

use tables::{Event, Instant, SequenceEvent};

use crate::data::DataError;

/// What a sequence model may know of events, oldest first, in parallel columns.
///
/// Items are always there. What was done and the places in baskets may be missing, as in plain
/// lists of items: then nothing is known of what was done, and each event is a basket of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History<'a> {
    items: &'a [u32],
    /// As many as items, or none.
    events: &'a [Option<Event>],
    /// As many as items, or none.
    places: &'a [u32],
}

/// Events that own their columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    items: Vec<u32>,
    events: Vec<Option<Event>>,
    places: Vec<u32>,
}

/// Events of all sequences, one after the other; a history is a prefix of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// End of each sequence in `events`.
    ends: Vec<u64>,
    events: Columns,
    /// Instant of the last event.
    last_at: Option<Instant>,
}

impl<'a> History<'a> {
    /// Items of which nothing else is known.
    pub const fn of(items: &'a [u32]) -> Self {
        Self {
            items,
            events: &[],
            places: &[],
        }
    }

    /// Items, oldest first.
    pub const fn items(self) -> &'a [u32] {
        self.items
    }

    /// Number of events.
    pub const fn len(self) -> usize {
        self.items.len()
    }

    /// Whether there are no events.
    pub const fn is_empty(self) -> bool {
        self.items.is_empty()
    }

    /// What was done, if it is known.
    pub fn event(self, at: usize) -> Option<Event> {
        self.events.get(at).copied().flatten()
    }

    /// How many events of the same basket come before an event: those of the same instant. 0 where
    /// a basket starts. It counts from the start of the basket, also where the history does not.
    pub fn place(self, at: usize) -> u32 {
        self.places.get(at).copied().unwrap_or(0)
    }

    /// The events from one on; none if there are fewer.
    #[must_use]
    pub fn skip(self, start: usize) -> Self {
        Self {
            items: self.items.get(start..).unwrap_or(&[]),
            events: self.events.get(start..).unwrap_or(&[]),
            places: self.places.get(start..).unwrap_or(&[]),
        }
    }

    /// The first events, all of them if there are fewer.
    #[must_use]
    pub(crate) fn take(self, n: usize) -> Self {
        Self {
            items: self.items.get(..n).unwrap_or(self.items),
            events: self.events.get(..n).unwrap_or(self.events),
            places: self.places.get(..n).unwrap_or(self.places),
        }
    }

    /// The last events, all of them if there are fewer.
    #[must_use]
    pub(crate) fn last(self, n: usize) -> Self {
        self.skip(self.len().saturating_sub(n))
    }
}

impl Columns {
    /// The events whose items are kept.
    pub(crate) fn of(history: History<'_>, is_kept: impl Fn(u32) -> bool) -> Self {
        let mut columns = Self::default();
        for (at, &item) in history.items.iter().enumerate() {
            if is_kept(item) {
                columns.push(item, history.event(at), history.place(at));
            }
        }
        columns
    }

    pub(crate) fn push(&mut self, item: u32, event: Option<Event>, place: u32) {
        self.items.push(item);
        self.events.push(event);
        self.places.push(place);
    }

    /// Puts another event in the place of one.
    pub(crate) fn set(&mut self, at: usize, item: u32, event: Option<Event>, place: u32) {
        self.items[at] = item;
        self.events[at] = event;
        self.places[at] = place;
    }

    pub(crate) fn history(&self) -> History<'_> {
        History {
            items: &self.items,
            events: &self.events,
            places: &self.places,
        }
    }
}

impl Sequences {
    /// Adds the next event, of which only the item is known.
    ///
    /// # Errors
    /// If events do not come by (sequence, position), or a position is left out.
    pub fn push(&mut self, sequence: u32, position: u32, item: u32) -> Result<(), DataError> {
        self.push_event(sequence, position, item, None, None)
    }

    /// Adds the next row of the table `sequences`: an event is in the basket of the one before if
    /// both have the same instant; where there are no instants, each is a basket of its own.
    ///
    /// # Errors
    /// As [`Sequences::push`].
    pub fn push_row(&mut self, row: &SequenceEvent) -> Result<(), DataError> {
        let (event, at) = (Some(row.event), row.occurred_at);
        self.push_event(row.sequence, row.position, row.item, event, at)
    }

    fn push_event(
        &mut self,
        sequence: u32,
        position: u32,
        item: u32,
        event: Option<Event>,
        at: Option<Instant>,
    ) -> Result<(), DataError> {
        let sequence_at = sequence as usize;
        // Sequences without events are allowed and empty.
        while self.ends.len() <= sequence_at {
            self.ends.push(self.events.items.len() as u64);
        }
        let is_last = self.ends.len() == sequence_at + 1;
        if !is_last || self.len(sequence) != Some(position as usize) {
            return Err(DataError::Order { sequence, position });
        }
        let shares_instant = position > 0 && at.is_some() && at == self.last_at;
        let place = match self.events.places.last() {
            Some(place) if shares_instant => place.saturating_add(1),
            _ => 0,
        };
        self.events.push(item, event, place);
        self.last_at = at;
        self.ends[sequence_at] += 1;
        Ok(())
    }

    /// Number of sequences.
    pub fn n(&self) -> usize {
        self.ends.len()
    }

    /// Events of all sequences.
    pub fn n_events(&self) -> usize {
        self.events.items.len()
    }

    /// How many events come before those of a sequence.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "ends are lengths of a vector"
    )]
    pub(crate) fn first_event(&self, sequence: u32) -> usize {
        let before = (sequence as usize).checked_sub(1);
        let end = before.and_then(|before| self.ends.get(before).or(self.ends.last()));
        end.map_or(0, |&end| end as usize)
    }

    fn len(&self, sequence: u32) -> Option<usize> {
        self.events_of(sequence).map(History::len)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "ends are lengths of a vector"
    )]
    fn events_of(&self, sequence: u32) -> Option<History<'_>> {
        let sequence = sequence as usize;
        let end = *self.ends.get(sequence)?;
        let start = sequence
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        Some(
            self.events
                .history()
                .take(end as usize)
                .skip(start as usize),
        )
    }

    /// The first `end` events of a sequence; `None` if it is shorter. The empty history exists for
    /// every number, also of a sequence without events.
    pub fn history(&self, sequence: u32, end: u32) -> Option<History<'_>> {
        if end == 0 {
            return Some(History::default());
        }
        let events = self.events_of(sequence)?;
        let end = end as usize;
        (end <= events.len()).then(|| events.take(end))
    }

    /// All events of a sequence; none if there is no such sequence.
    pub(crate) fn all(&self, sequence: u32) -> History<'_> {
        self.events_of(sequence).unwrap_or_default()
    }

    /// How many events follow a position in the same basket.
    pub(crate) fn mates_after(&self, sequence: u32, position: u32) -> u32 {
        let events = self.all(sequence);
        let after = (position as usize + 1..events.len()).take_while(|&at| events.place(at) > 0);
        u32::try_from(after.count()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences() -> Sequences {
        let mut sequences = Sequences::default();
        for (sequence, position, item) in [(0, 0, 5), (0, 1, 6), (2, 0, 7)] {
            sequences.push(sequence, position, item).unwrap();
        }
        sequences
    }

    #[test]
    fn histories_are_prefixes() {
        let sequences = sequences();
        let items = |sequence, end| sequences.history(sequence, end).map(History::items);
        assert_eq!(sequences.n(), 3);
        assert_eq!(items(0, 2), Some(&[5, 6][..]));
        assert_eq!(items(0, 1), Some(&[5][..]));
        assert_eq!(items(1, 0), Some(&[][..]));
        assert_eq!(items(1, 1), None);
        assert_eq!(items(2, 1), Some(&[7][..]));
        assert_eq!(items(9, 0), Some(&[][..]));
        assert_eq!(items(9, 1), None);
    }

    #[test]
    fn events_of_one_instant_are_a_basket_and_the_next_user_starts_another() {
        let mut sequences = Sequences::default();
        let events = [
            (0, 0, Some(7), Event::View),
            (0, 1, Some(7), Event::Cart),
            (0, 2, Some(7), Event::Purchase),
            (0, 3, Some(9), Event::View),
            (1, 0, Some(9), Event::Click),
            (1, 1, None, Event::View),
            (1, 2, None, Event::View),
        ];
        for (sequence, position, at, event) in events {
            let row = SequenceEvent {
                sequence,
                position,
                item: position,
                event,
                occurred_at: at.map(Instant),
                sample_id: 0,
                part: tables::Part::Training,
            };
            sequences.push_row(&row).unwrap();
        }
        let places = |sequence, end| {
            let history = sequences.history(sequence, end).unwrap();
            let all = 0..history.len();
            all.map(|at| history.place(at)).collect::<Vec<u32>>()
        };
        assert_eq!(places(0, 4), [0, 1, 2, 0]);
        assert_eq!(places(1, 3), [0, 0, 0]);
        let history = sequences.history(0, 4).unwrap().skip(2);
        assert_eq!(history.items(), [2, 3]);
        assert_eq!((history.place(0), history.place(1)), (2, 0));
        assert_eq!(history.event(0), Some(Event::Purchase));
        // A place counts from the start of the basket; what is beyond the end has none.
        assert_eq!((history.event(2), history.place(2)), (None, 0));
        let mates: Vec<u32> = (0..5).map(|at| sequences.mates_after(0, at)).collect();
        assert_eq!(mates, [2, 1, 0, 0, 0]);
        assert_eq!(sequences.mates_after(5, 0), 0);
    }

    #[test]
    fn events_out_of_order_are_refused() {
        for (sequence, position) in [(1, 0), (2, 0), (2, 2), (3, 1)] {
            assert_eq!(
                sequences().push(sequence, position, 1),
                Err(DataError::Order { sequence, position })
            );
        }
    }
}
