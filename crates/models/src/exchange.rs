//! Histories in which one thing is exchanged between events, whoever's they are: what permutation
//! importance asks of any model, whatever it looks at.

use seed::Seed;
use tables::Event;

use crate::features::FeatureGroup;
use crate::history::{Columns, History};

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// The items of all events; types and baskets stay where they are.
    Items,
    /// The types of all events: what was done.
    Events,
    /// The places in baskets of all events.
    Baskets,
    /// The whole event at a place, counted from the end: 1 is the last.
    Place(usize),
    /// The items of the events of one type.
    ItemsOf(Event),
}

/// Histories with something exchanged.
#[derive(Clone, Debug, Default)]
pub struct Exchanged(Vec<Columns>);

impl Exchange {
    /// What the feature is one of.
    pub const fn group(self) -> FeatureGroup {
        match self {
            Self::Items | Self::Events | Self::Baskets => FeatureGroup::Input,
            Self::Place(_) => FeatureGroup::Place,
            Self::ItemsOf(_) => FeatureGroup::EventType,
        }
    }

    /// The name of the feature.
    pub fn name(self) -> String {
        match self {
            Self::Items => ITEM.to_owned(),
            Self::Events => EVENT.to_owned(),
            Self::Baskets => BASKET.to_owned(),
            Self::Place(place) => place_name(place),
            Self::ItemsOf(event) => event.as_str().to_owned(),
        }
    }
}

/// Name of the items of events.
pub(crate) const ITEM: &str = "item";
/// Name of the types of events.
pub(crate) const EVENT: &str = "event";
/// Name of the places in baskets.
pub(crate) const BASKET: &str = "basket";

/// Name of a place, counted from the end.
pub(crate) fn place_name(place: usize) -> String {
    format!("place_{place}")
}

impl Exchanged {
    /// Exchanges something between the events of some histories by a permutation from a seed. Lengths
    /// stay.
    pub fn new(histories: &[History<'_>], what: Exchange, seed: Seed) -> Self {
        let mut all: Vec<Columns> = histories
            .iter()
            .map(|history| Columns::of(*history, |_| true))
            .collect();
        let is_meant = |history: History<'_>, at: usize| match what {
            Exchange::Items | Exchange::Events | Exchange::Baskets => true,
            Exchange::Place(place) => at + place == history.len(),
            Exchange::ItemsOf(event) => history.event(at) == Some(event),
        };
        let slots: Vec<(usize, usize)> = histories
            .iter()
            .enumerate()
            .flat_map(|(of, history)| {
                let meant = (0..history.len()).filter(move |&at| is_meant(*history, at));
                meant.map(move |at| (of, at))
            })
            .collect();
        let mut sources = slots.clone();
        seed.sequence().shuffle(&mut sources);
        for (&(of, at), &(from, from_at)) in slots.iter().zip(&sources) {
            let source = histories[from];
            let own = histories[of];
            let item = source.items()[from_at];
            let (item, event, place) = match what {
                Exchange::Items | Exchange::ItemsOf(_) => (item, own.event(at), own.place(at)),
                Exchange::Events => (own.items()[at], source.event(from_at), own.place(at)),
                Exchange::Baskets => (own.items()[at], own.event(at), source.place(from_at)),
                Exchange::Place(_) => (item, source.event(from_at), source.place(from_at)),
            };
            all[of].set(at, item, event, place);
        }
        Self(all)
    }

    /// A history, in the order in which they were given.
    pub fn history(&self, at: usize) -> History<'_> {
        self.0.get(at).map(Columns::history).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut values: Vec<u32>) -> Vec<u32> {
        values.sort_unstable();
        values
    }

    #[test]
    fn only_what_is_meant_is_exchanged_and_nothing_is_lost() {
        let mut columns: Vec<Columns> = vec![Columns::default(); 9];
        for (user, columns) in (0_u32..).zip(&mut columns) {
            for at in 0..=user {
                let event = [Event::View, Event::Purchase][(at % 2) as usize];
                columns.push(user * 10 + at, Some(event), at % 3);
            }
        }
        let histories: Vec<History<'_>> = columns.iter().map(Columns::history).collect();
        let exchange = |what| Exchanged::new(&histories, what, Seed::root(3));
        let items = |history: History<'_>| history.items().to_vec();
        let own: Vec<u32> = histories.iter().flat_map(|h| items(*h)).collect();

        let all = exchange(Exchange::Items);
        let found: Vec<u32> = (0..9).flat_map(|at| items(all.history(at))).collect();
        assert_ne!(found, own);
        assert_eq!(sorted(found), sorted(own));
        for (at, history) in histories.iter().enumerate() {
            assert_eq!(all.history(at).len(), history.len());
            assert_eq!(all.history(at).event(0), history.event(0));
        }

        let last = exchange(Exchange::Place(1));
        let mut is_moved = false;
        for (at, history) in histories.iter().enumerate() {
            let (found, own) = (items(last.history(at)), items(*history));
            assert_eq!(found[..at], own[..at]);
            is_moved |= found[at] != own[at];
        }
        assert!(is_moved);

        let bought = exchange(Exchange::ItemsOf(Event::Purchase));
        for (at, history) in histories.iter().enumerate() {
            for (place, item) in items(bought.history(at)).into_iter().enumerate() {
                if place % 2 == 0 {
                    assert_eq!(item, history.items()[place]);
                } else {
                    assert_eq!(item % 10 % 2, 1);
                }
            }
        }
        let again = exchange(Exchange::Items);
        assert_eq!(items(again.history(7)), items(all.history(7)));
    }
}
