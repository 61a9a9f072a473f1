//! kNN-Shapley against the shared oracle values, brute force over all coalitions by another program.

use std::path::Path;

use attribution::nearest::{Grouping, Scratch, Values, add_shapley};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn values_agree_with_the_oracle() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracles/knn_shapley.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: `{}` is absent", path.display());
        return;
    };
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 4);
    let mut has_more_neighbours_than_points = false;
    for case in &cases {
        let k = usize::try_from(case["K"].as_u64().unwrap()).unwrap();
        let points: Vec<Vec<f64>> = case["x_train"]
            .as_array()
            .unwrap()
            .iter()
            .map(numbers)
            .collect();
        let labels = numbers(&case["y_train"]);
        let queries: Vec<Vec<f64>> = case["x_test"]
            .as_array()
            .unwrap()
            .iter()
            .map(numbers)
            .collect();
        let query_labels = numbers(&case["y_test"]);
        has_more_neighbours_than_points |= k > points.len();
        let grouping = Grouping::singletons(points.len());
        let mut values = Values::new(&grouping);
        for (query, label) in queries.iter().zip(&query_labels) {
            let closeness: Vec<f64> = points
                .iter()
                .map(|x| {
                    -x.iter()
                        .zip(query)
                        .map(|(a, b)| (a - b) * (a - b))
                        .sum::<f64>()
                })
                .collect();
            let matches = (0..)
                .zip(&labels)
                .filter(|(_, y)| y.total_cmp(label).is_eq());
            add_shapley(
                &grouping,
                &closeness,
                matches.map(|(point, _)| point),
                k,
                1.0 / queries.len() as f64,
                &mut Scratch::default(),
                &mut values,
            );
        }
        for (point, wanted) in (0..).zip(numbers(&case["shapley"])) {
            let found = values.of(&grouping, point);
            assert!(
                (found - wanted).abs() <= 1e-12,
                "K = {k}, point {point}: {found} is not {wanted}"
            );
        }
    }
    assert!(has_more_neighbours_than_points);
}
