//! The statements, by stage.

/// Statements of `preprocess`.
pub mod preprocess {
    /// Interactions with the first step that refuses them. Parameters: `earliest` and `latest`
    /// instants, `positive_value`, `positive_price`. Reads `interactions`, `kept_events`,
    /// `excluded_items`, `taken_back`.
    pub const LABELLED: &str = include_str!("../sql/preprocess/labelled.sql");
    /// Purchases that a later cancellation takes back. Reads `interactions`.
    pub const TAKEN_BACK: &str = include_str!("../sql/preprocess/taken_back.sql");
    /// Rows refused by each step. Reads `labelled`.
    pub const REFUSALS: &str = include_str!("../sql/preprocess/refusals.sql");
    /// Rows that no step refused, in sequence order. Reads `labelled`.
    pub const SURVIVORS: &str = include_str!("../sql/preprocess/survivors.sql");
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    use super::preprocess;
    use crate::{Engine, Parameter};

    fn columns(engine: &Engine, statement: &str) -> Vec<(String, DataType)> {
        let stream = engine.stream(statement, "plan").unwrap();
        stream
            .schema()
            .fields()
            .iter()
            .map(|field| (field.name().clone(), field.data_type().clone()))
            .collect()
    }

    #[test]
    fn every_statement_plans_against_empty_tables() {
        let engine = Engine::new(1).unwrap();
        let schema = tables::INTERACTIONS.schema();
        engine
            .register_batches(
                "interactions",
                schema.clone(),
                vec![RecordBatch::new_empty(schema)],
            )
            .unwrap();
        for (name, column, kind) in [
            ("kept_events", "event", DataType::Utf8),
            ("excluded_items", "item_id", DataType::Utf8),
            ("taken_back", "sample_id", DataType::UInt64),
        ] {
            let schema = Arc::new(Schema::new(vec![Field::new(column, kind, false)]));
            engine.register_batches(name, schema, vec![]).unwrap();
        }
        assert_eq!(
            columns(&engine, preprocess::TAKEN_BACK),
            [("sample_id".to_owned(), DataType::UInt64)]
        );
        let parameters = [
            ("earliest", Parameter::Instant(0)),
            ("latest", Parameter::Instant(1)),
            ("positive_value", Parameter::Boolean(true)),
            ("positive_price", Parameter::Boolean(true)),
        ];
        engine
            .register_view("labelled", preprocess::LABELLED, &parameters)
            .unwrap();
        assert_eq!(
            columns(&engine, preprocess::REFUSALS),
            [
                ("step".to_owned(), DataType::Utf8),
                ("n_rows".to_owned(), DataType::Int64)
            ]
        );
        let survivors: Vec<String> = columns(&engine, preprocess::SURVIVORS)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(survivors.len(), 11);
        assert_eq!(survivors[10], "copy");
    }

    #[test]
    fn statements_that_reach_disk_are_totally_ordered() {
        for statement in [
            preprocess::TAKEN_BACK,
            preprocess::REFUSALS,
            preprocess::SURVIVORS,
        ] {
            assert!(statement.starts_with("-- One row per"));
            assert!(statement.contains("\nORDER BY"));
        }
    }
}
