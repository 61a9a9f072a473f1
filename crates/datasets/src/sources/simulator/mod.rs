//! A simulated shop, with the truth about every event.
//!
//! Not noise: items have categories, brands, styles and prices that users have tastes for; tastes
//! drift, staples run out, what was clicked leads on to what goes with it. The log is streamed in
//! the order of time with memory that grows with users and items, and its bytes depend on the
//! parameters and the seed alone.
//!
//! Measured as peak resident memory of `ingest`, which writes every table on the way: 94 MiB for a
//! million events (20 thousand users, 3 thousand items), 109 MiB for ten million events of the same
//! users and items, 129 MiB for ten million of 200 thousand users and 9486 items, at 1.6
//! microseconds of processor time an event.

mod catalogue;
mod draws;
mod people;
mod search;
mod session;
mod shop;
mod stream;
#[cfg(test)]
mod tests;
mod words;

use seed::Seed;
use serde::{Deserialize, Serialize};
use tables::{Instant, Interaction, SampleId, Truth};

use self::catalogue::{Catalogue, Language};
use self::people::{DAY, NONE, People};
use self::search::Search;
use self::session::{Happening, Kind, World};
use self::shop::Shop;
use self::stream::Stream;
use crate::dataset::{
    Dataset, DatasetError, Parameter, ParameterError, Raw, Sink, Source, Summary, Takes,
};

/// 2024-01-01, a Monday, in milliseconds since 1970.
const START: i64 = 1_704_067_200_000;

/// Fewest and most events.
const N_EVENTS: [u64; 2] = [10_000, 100_000_000];

/// Events between two reports of progress.
const REPORT_EVERY: u64 = 1 << 14;

/// Parameters as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Parameters {
    n_events: u64,
    n_users: Option<u32>,
    n_items: Option<u32>,
    language: Language,
    days: u32,
    bot_frac: f64,
    accident_frac: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            n_events: 100_000,
            n_users: None,
            n_items: None,
            language: Language::En,
            days: 120,
            bot_frac: 0.01,
            accident_frac: 0.02,
        }
    }
}

/// The source.
#[derive(Clone, Debug)]
pub(crate) struct Simulator {
    parameters: Parameters,
    n_users: u32,
    n_items: u32,
}

impl Source for Simulator {
    const NAME: &'static str = "simulator";
    const REVISION: u32 = 1;
    const DOC: &'static str = "A simulated shop with tastes, sessions, search, bots and accidents, and the truth about each event; needs no file.";
    const TAKES: &'static [Takes] = &[];
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "n_events",
            doc: "events of the log, exactly; 10000 to 100000000",
        },
        Parameter {
            name: "n_users",
            doc: "people, without bots; null: one for each 50 events",
        },
        Parameter {
            name: "n_items",
            doc: "items of the catalogue; null: three times the square root of `n_events`",
        },
        Parameter {
            name: "language",
            doc: "of titles, categories and queries: `en` or `zh`",
        },
        Parameter {
            name: "days",
            doc: "days that the log spans, about; 1 to 3650",
        },
        Parameter {
            name: "bot_frac",
            doc: "share of events made by bots, about; 0 to 0.5",
        },
        Parameter {
            name: "accident_frac",
            doc: "share of accidental clicks, about; 0 to 0.3",
        },
    ];
    type Parameters = Parameters;

    fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        let range = |name, found: String, expected: String| ParameterError::Range {
            dataset: Self::NAME,
            name,
            found,
            expected,
        };
        let n_events = parameters.n_events;
        if !(N_EVENTS[0]..=N_EVENTS[1]).contains(&n_events) {
            let expected = format!("{} to {}", N_EVENTS[0], N_EVENTS[1]);
            return Err(range("n_events", n_events.to_string(), expected));
        }
        // The bound above keeps both well within 32 bits.
        let derived = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let n_users = parameters.n_users.unwrap_or(derived(n_events / 50));
        let n_items = parameters.n_items.unwrap_or(derived(n_events.isqrt() * 3));
        let counts = [
            ("n_users", n_users, 10, 50_000_000),
            ("n_items", n_items, 30, 10_000_000),
            ("days", parameters.days, 1, 3650),
        ];
        for (name, found, low, high) in counts {
            if !(low..=high).contains(&found) {
                return Err(range(name, found.to_string(), format!("{low} to {high}")));
            }
        }
        let shares = [
            ("bot_frac", parameters.bot_frac, 0.5),
            ("accident_frac", parameters.accident_frac, 0.3),
        ];
        for (name, found, high) in shares {
            if !(0.0..=high).contains(&found) {
                return Err(range(name, found.to_string(), format!("0 to {high}")));
            }
        }
        Ok(Self {
            parameters,
            n_users,
            n_items,
        })
    }
}

impl Simulator {
    fn world(&self, span: i64, seed: Seed) -> World {
        let Parameters {
            language,
            bot_frac,
            accident_frac,
            ..
        } = self.parameters;
        let catalogue = Catalogue::new(self.n_items, span, language, seed);
        let n_bots = if bot_frac > 0.0 {
            (self.n_users / 500).clamp(1, 1000)
        } else {
            0
        };
        World {
            people: People::new(self.n_users, n_bots, span, &catalogue, seed),
            search: Search::new(&catalogue, seed),
            shop: Shop::new(&catalogue),
            accident_rate: accident_frac / (1.0 - bot_frac - accident_frac),
            catalogue,
        }
    }
}

impl Dataset for Simulator {
    fn read(&self, _: &Raw, seed: Seed, sink: &mut dyn Sink) -> Result<Summary, DatasetError> {
        let Parameters {
            n_events,
            days,
            bot_frac,
            ..
        } = self.parameters;
        let span = i64::from(days) * DAY;
        let world = self.world(span, seed);
        for item in 0..self.n_items {
            sink.item(world.catalogue.row(item))?;
        }
        for user in (0..).take(world.people.persons.len()) {
            sink.user(world.people.row(user))?;
        }
        for query in (0..).take(world.search.asks.len()) {
            sink.query(world.search.row(query))?;
        }
        for judgment in world.search.judgments() {
            sink.judgment(judgment)?;
        }
        let mut stream = Stream::new(world, n_events, span, bot_frac, seed);
        for ordinal in 0..n_events {
            if ordinal.is_multiple_of(REPORT_EVERY) {
                sink.progress(ordinal, n_events);
            }
            let (happening, visit) = stream.next();
            // Ordinals end at 100 million, far below 2^40.
            let sample_id = SampleId::new(0, ordinal, 0).map_or(0, |id| id.0);
            sink.truth(truth(&happening, sample_id))?;
            let product = stream.world().catalogue.product(happening.item);
            sink.interaction(Interaction {
                sample_id,
                line: ordinal + 1,
                user_id: Some(format!("u{}", happening.user + 1)),
                item_id: format!("i{}", happening.item + 1),
                event: happening.event,
                occurred_at: Some(Instant(START + happening.at)),
                value: (happening.value > 0.0).then_some(happening.value),
                price_e4: Some(product.price_e4),
                session_id: Some(format!("s{}", visit + 1)),
                query_id: (happening.query != NONE).then(|| Search::id(happening.query)),
                shown_rank: (happening.rank > 0).then_some(happening.rank),
            })?;
        }
        sink.progress(n_events, n_events);
        Ok(Summary {
            files: vec![crate::dataset::FileSummary {
                name: Self::NAME.to_owned(),
                n_records: n_events,
                ..crate::dataset::FileSummary::default()
            }],
        })
    }
}

fn truth(happening: &Happening, sample_id: u64) -> Truth {
    Truth {
        sample_id,
        kind: happening.kind.as_str().to_owned(),
        affinity: (happening.kind != Kind::Bot).then_some(happening.affinity),
    }
}
