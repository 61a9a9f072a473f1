//! The statements, by stage.

/// Statements of `preprocess`.
pub mod preprocess {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use crate::statement::{Joins, Parameter, Relation, Statement, columns};

    /// The raw log.
    pub static INTERACTIONS: Relation = Relation {
        name: "interactions",
        schema: || tables::INTERACTIONS.schema(),
    };

    /// Words of the events that are kept, each once.
    pub static KEPT_EVENTS: Relation = Relation {
        name: "kept_events",
        schema: || columns(&[("event", DataType::Utf8, false)]),
    };

    /// Items that are no goods, each once.
    pub static EXCLUDED_ITEMS: Relation = Relation {
        name: "excluded_items",
        schema: || columns(&[("item_id", DataType::Utf8, false)]),
    };

    /// Purchases that are dropped with their cancellation, each once.
    pub static TAKEN_BACK: Relation = Relation {
        name: "taken_back",
        schema: || columns(&[("sample_id", DataType::UInt64, false)]),
    };

    /// Rows and instants of the raw log, in one row.
    pub static EXTENT: Relation = Relation {
        name: "extent",
        schema: || {
            columns(&[
                ("n_rows", DataType::Int64, false),
                ("n_instants", DataType::Int64, false),
            ])
        },
    };

    /// Purchases and cancellations of those who cancelled.
    pub static CANCELLED: Relation = Relation {
        name: "cancelled",
        schema: || {
            let interactions = tables::INTERACTIONS.schema();
            let names = ["sample_id", "user_id", "item_id", "event", "value"];
            let fields = names
                .iter()
                .filter_map(|name| interactions.field_with_name(name).ok().cloned());
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        },
    };

    /// The raw log, each row with the step that refuses it.
    pub static LABELLED: Relation = Relation {
        name: "labelled",
        schema: || {
            let mut fields = tables::INTERACTIONS.schema().fields().to_vec();
            fields.push(Arc::new(Field::new("refused", DataType::Utf8, true)));
            Arc::new(Schema::new(fields))
        },
    };

    /// Rows refused by each step.
    pub static REFUSALS: Relation = Relation {
        name: "refusals",
        schema: || {
            columns(&[
                ("step", DataType::Utf8, false),
                ("n_rows", DataType::Int64, false),
            ])
        },
    };

    /// Rows that no step refused.
    pub static SURVIVORS: Relation = Relation {
        name: "survivors",
        schema: || tables::INTERACTIONS.schema(),
    };

    /// How many rows, and how many of them with an instant.
    pub static COUNT_EXTENT: Statement = Statement {
        name: "preprocess/extent",
        action: "count the log",
        text: include_str!("../sql/preprocess/extent.sql"),
        reads: &[&INTERACTIONS],
        parameters: &[],
        gives: &EXTENT,
        joins: Joins::Hash,
    };

    /// What is needed to match cancellations with purchases.
    pub static SELECT_CANCELLED: Statement = Statement {
        name: "preprocess/cancelled",
        action: "match cancellations with purchases",
        text: include_str!("../sql/preprocess/cancelled.sql"),
        reads: &[&INTERACTIONS],
        parameters: &[],
        gives: &CANCELLED,
        joins: Joins::Sort,
    };

    /// The first step that refuses each row.
    pub static LABEL: Statement = Statement {
        name: "preprocess/labelled",
        action: "label the log",
        text: include_str!("../sql/preprocess/labelled.sql"),
        reads: &[&INTERACTIONS, &KEPT_EVENTS, &EXCLUDED_ITEMS, &TAKEN_BACK],
        parameters: &[
            ("needs_instants", Parameter::Boolean(false)),
            ("earliest", Parameter::Instant(0)),
            ("latest", Parameter::Instant(0)),
            ("positive_value", Parameter::Boolean(false)),
            ("positive_price", Parameter::Boolean(false)),
        ],
        gives: &LABELLED,
        // Three short lists beside the log.
        joins: Joins::Hash,
    };

    /// How many rows each step refuses.
    pub static COUNT_REFUSALS: Statement = Statement {
        name: "preprocess/refusals",
        action: "count refused rows",
        text: include_str!("../sql/preprocess/refusals.sql"),
        reads: &[&LABELLED],
        parameters: &[],
        gives: &REFUSALS,
        joins: Joins::Hash,
    };

    /// The rows that no step refused, in sequence order.
    pub static SORT_SURVIVORS: Statement = Statement {
        name: "preprocess/survivors",
        action: "sort the events",
        text: include_str!("../sql/preprocess/survivors.sql"),
        reads: &[&LABELLED],
        parameters: &[],
        gives: &SURVIVORS,
        joins: Joins::Hash,
    };
}

/// All statements.
pub static STATEMENTS: &[&crate::Statement] = &[
    &preprocess::COUNT_EXTENT,
    &preprocess::SELECT_CANCELLED,
    &preprocess::LABEL,
    &preprocess::COUNT_REFUSALS,
    &preprocess::SORT_SURVIVORS,
];
