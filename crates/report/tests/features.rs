//! The section on features: shown where importance was wired, with every method and what acting left out.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its data fails"
)]

use std::path::{Path, PathBuf};

use report::{Config, Report};
use stage::{Io, Label, Stage};
use tables::{FeatureImportance, FeatureWeight};

fn importance(method: &str, group: &str, feature: &str, rank: u32, x: f64) -> FeatureImportance {
    let is_told = method != "random";
    FeatureImportance {
        method: method.to_owned(),
        group: group.to_owned(),
        feature: feature.to_owned(),
        rank,
        importance: x,
        std_error: is_told.then_some(0.5),
        mean: is_told.then_some(-x),
        n_requests: 40,
        n_repeats: 3,
        gap: (method == "integrated_gradients").then_some(0.125),
    }
}

fn wire(root: &Path, name: &str) -> PathBuf {
    let directory = root.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn importance_and_what_acting_left_out_are_shown() {
    let root = tempfile::tempdir().unwrap();
    let told = [
        importance("integrated_gradients", "event_type", "view", 1, 3.0),
        importance("integrated_gradients", "input", "item", 1, 2.0),
        importance("integrated_gradients", "input", "event", 2, 1.0),
    ];
    let lots = [importance("random", "input", "event", 1, 0.5)];
    let weights = [("event", 0.0), ("price", 1.0)].map(|(feature, weight)| FeatureWeight {
        method: "integrated_gradients".to_owned(),
        feature: feature.to_owned(),
        importance: 1.0,
        weight,
    });
    let [first, second, third] = ["told", "lots", "weights"].map(|name| wire(root.path(), name));
    tables::write_all(&first, told).unwrap();
    tables::write_all(&second, lots).unwrap();
    tables::write_all(&third, weights).unwrap();
    let label = |text: &str| Label::parse(text).unwrap();
    let out = root.path().join("out");
    let io = Io::new(&out, "data")
        .with_input(
            "feature_importance",
            label("node=importance,method=integrated_gradients"),
            first,
        )
        .with_input(
            "feature_importance",
            label("node=importance,method=random"),
            second,
        )
        .with_input(
            "feature_weights",
            label("node=selected,method=integrated_gradients"),
            third,
        );
    Report::run(&Config::default(), &io).unwrap();
    let page = std::fs::read_to_string(out.join("html/index.html")).unwrap();
    assert!(page.contains("id=\"features\""));
    // A chart for each group that a method tells of; none for lots.
    assert_eq!(
        page.matches("importance by integrated_gradients").count(),
        2
    );
    assert_eq!(page.matches("importance by random").count(), 0);
    let lines = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(out.join(format!("tables/{name}.csv"))).unwrap();
        text.lines().skip(1).map(str::to_owned).collect()
    };
    let all = lines("feature_importance");
    assert_eq!(all.len(), 4);
    // 1.96 standard errors on both sides.
    assert!(
        all[1].contains("integrated_gradients,input,1,item,2,1.02,2.98"),
        "{}",
        all[1]
    );
    assert!(all[1].ends_with("0.125"), "{}", all[1]);
    let weights = lines("feature_weights");
    assert!(weights[0].ends_with("event,1,0"), "{}", weights[0]);

    // Nothing was wired: nothing is said.
    let out = root.path().join("none");
    Report::run(&Config::default(), &Io::new(&out, "data")).unwrap();
    let page = std::fs::read_to_string(out.join("html/index.html")).unwrap();
    assert!(!page.contains("id=\"features\""));
}
