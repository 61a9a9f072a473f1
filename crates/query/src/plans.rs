//! Every statement planned against empty relations of the declared schemas.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;

use crate::sql::STATEMENTS;
use crate::{Engine, Parameter, Settings};

/// The words of an enumeration and views are strings once they leave the engine.
fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Dictionary(_, value) => plain(value),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        kind => kind.clone(),
    }
}

#[test]
fn every_statement_plans_and_gives_what_it_declares() {
    for statement in STATEMENTS {
        let scratch = tempfile::tempdir().unwrap();
        let engine = Engine::new(&Settings::new(1, scratch.path())).unwrap();
        for relation in statement.reads {
            let empty = RecordBatch::new_empty((relation.schema)());
            engine.register_batches(relation, vec![empty]).unwrap();
        }
        let frame = engine.plan(statement, statement.parameters).unwrap();
        let columns = |fields: &arrow::datatypes::Fields| -> Vec<(String, DataType)> {
            let fields = fields.iter();
            fields
                .map(|field| (field.name().clone(), plain(field.data_type())))
                .collect()
        };
        assert_eq!(
            columns(frame.schema().fields()),
            columns((statement.gives.schema)().fields()),
            "{}",
            statement.name
        );
        // Physical planning, and a run over nothing.
        let stream = engine.stream(statement, statement.parameters).unwrap();
        let n: usize = stream.map(|batch| batch.unwrap().num_rows()).sum();
        let counts_nothing = usize::from(statement.name.ends_with("extent"));
        assert_eq!(n, counts_nothing, "{}", statement.name);
    }
}

#[test]
fn every_file_is_declared_says_what_a_row_is_and_is_ordered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let mut files = BTreeSet::new();
    for stage in std::fs::read_dir(&folder).unwrap() {
        for file in std::fs::read_dir(stage.unwrap().path()).unwrap() {
            let path = file.unwrap().path().with_extension("");
            files.insert(path.strip_prefix(&folder).unwrap().display().to_string());
        }
    }
    let declared: BTreeSet<String> = STATEMENTS
        .iter()
        .map(|statement| statement.name.to_owned())
        .collect();
    assert_eq!(files, declared);
    for statement in STATEMENTS {
        assert!(
            statement.text.starts_with("-- One row "),
            "{}",
            statement.name
        );
        // A view is ordered by whoever reads it.
        let is_view = STATEMENTS.iter().any(|other| {
            let mut reads = other.reads.iter();
            reads.any(|relation| relation.name == statement.gives.name)
        });
        let last = statement.text.trim_end().lines().last().unwrap();
        assert_eq!(last.starts_with("ORDER BY"), !is_view, "{}", statement.name);
    }
}

#[test]
fn other_parameters_than_declared_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let engine = Engine::new(&Settings::new(1, scratch.path())).unwrap();
    let label = &crate::sql::preprocess::LABEL;
    let mut of_another_kind = label.parameters.to_vec();
    of_another_kind[0].1 = Parameter::Integer(1);
    for parameters in [vec![], of_another_kind] {
        let error = engine.register_view(label, &parameters).unwrap_err();
        let reason = error.kind.to_string();
        assert!(reason.contains("parameters differ"), "{reason}");
    }
}
