//! What can be written in `with:` for this stage.

use serde::{Deserialize, Serialize};
use stage::{Exit, Failure, Field, FieldKind};
use tables::{Event, Instant};

/// What a cancellation does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancellations {
    /// Cancellations are dropped; the purchases they take back stay.
    #[default]
    Drop,
    /// The purchase that a cancellation takes back is dropped too. Uses the future.
    DropWithPurchase,
}

/// A column that must be positive where it is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positive {
    /// Quantity or rating.
    Value,
    /// Price.
    Price,
}

/// Instants that are believed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instants {
    /// First.
    pub from: Instant,
    /// Last.
    pub to: Instant,
}

/// How often users and items must occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KCoreKind {
    /// As they are.
    #[default]
    None,
    /// Counted once, then filtered once: rare users and items can remain.
    SinglePass,
    /// Until every user and item that remains occurs often enough.
    Iterative,
}

/// The k-core. Counts are over the whole log, later events included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KCore {
    /// Which.
    pub kind: KCoreKind,
    /// Fewest events of a user.
    pub users: u32,
    /// Fewest events on an item.
    pub items: u32,
}

impl Default for KCore {
    fn default() -> Self {
        Self {
            kind: KCoreKind::None,
            users: 5,
            items: 5,
        }
    }
}

/// The configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Instants that are believed; by default all.
    pub instants: Option<Instants>,
    /// What a cancellation does.
    pub cancellations: Cancellations,
    /// Events that are kept; empty for all but cancellations.
    pub events: Vec<Event>,
    /// Columns that must be positive where they are present.
    pub positive: Vec<Positive>,
    /// Items that are no goods, such as postage.
    pub exclude_items: Vec<String>,
    /// Whether equal records are kept once.
    pub drop_duplicates: bool,
    /// How often users and items must occur.
    pub k_core: KCore,
    /// Minutes without an event that end a session; 0 takes the log's own sessions.
    pub session_gap_minutes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instants: None,
            cancellations: Cancellations::Drop,
            events: Vec::new(),
            positive: Vec::new(),
            exclude_items: Vec::new(),
            drop_duplicates: true,
            k_core: KCore::default(),
            session_gap_minutes: 30,
        }
    }
}

impl Config {
    /// Checks what can be checked without data.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let wrong = |message: &str| Err(Failure::new(Exit::Configuration, message));
        if self.events.contains(&Event::Cancel) {
            return wrong(
                "`events` cannot keep `cancel`: a cancellation is not an event of interest",
            )
            .map_err(|failure| failure.hint("see `cancellations`"));
        }
        if self
            .instants
            .is_some_and(|instants| instants.from > instants.to)
        {
            return wrong("`instants.from` must not be after `instants.to`");
        }
        if self.k_core.users == 0 || self.k_core.items == 0 {
            return wrong("`k_core.users` and `k_core.items` must be at least 1")
                .map_err(|failure| failure.hint("write `k_core: { kind: none }` for no k-core"));
        }
        Ok(())
    }

    /// The events that are kept, spelled out.
    pub(crate) fn kept_events(&self) -> Vec<Event> {
        if self.events.is_empty() {
            let all = Event::ALL.iter().copied();
            all.filter(|event| *event != Event::Cancel).collect()
        } else {
            self.events.clone()
        }
    }
}

/// The fields of [`Config`], for `describe`.
pub(crate) fn fields() -> Vec<Field> {
    let field = |name, kind, default, doc| Field {
        name,
        kind,
        default: Some(default),
        doc,
    };
    vec![
        field(
            "instants",
            FieldKind::Mapping,
            "null",
            "`{ from: ISO 8601, to: ISO 8601 }`: instants that are believed",
        ),
        field(
            "cancellations",
            FieldKind::String,
            "drop",
            "`drop`, or `drop_with_purchase`, which uses the future",
        ),
        field(
            "events",
            FieldKind::List,
            "[]",
            "events that are kept; empty for all but cancellations",
        ),
        field(
            "positive",
            FieldKind::List,
            "[]",
            "`value`, `price`: columns that must be positive where present",
        ),
        field(
            "exclude_items",
            FieldKind::List,
            "[]",
            "items that are no goods, such as postage",
        ),
        field(
            "drop_duplicates",
            FieldKind::Boolean,
            "true",
            "whether equal records are kept once",
        ),
        field(
            "k_core",
            FieldKind::Mapping,
            "{ kind: none, users: 5, items: 5 }",
            "`none`, `single_pass` or `iterative`; uses the future",
        ),
        field(
            "session_gap_minutes",
            FieldKind::Integer,
            "30",
            "minutes without an event that end a session; 0 takes the log's own",
        ),
    ]
}
