//! Importance of features and acting on it, through the executables.

use e2e::Pipeline;

#[test]
fn the_pipeline_of_features_is_planned_with_every_arm() {
    let pipeline = Pipeline::new().named("features");
    let plan = pipeline.touchstone("plan", &["pipeline.yaml"]);
    plan.success()
        .says(&["permutation", "integrated_gradients", "selected", "weighed"]);
}

#[test]
fn a_small_shop_goes_from_importance_to_a_report_of_it() {
    let pipeline = Pipeline::new().named("features");
    pipeline
        .edit("n_events: 60000", "n_events: 10000")
        .edit("requests: 400, repeats: 3", "requests: 30, repeats: 1")
        .edit("places: 5, steps: 64", "places: 2, steps: 4");
    // A network would take most of the time of this test.
    let file = pipeline.folder().join("pipeline.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.contains("name: sasrec"))
        .flat_map(|line| [line, "\n"])
        .collect();
    pipeline.folder().write("pipeline.yaml", text);
    pipeline.run().success();
    let artifacts = pipeline.artifacts();
    let has = |stage: &str, role: &str| {
        artifacts
            .keys()
            .any(|(of, _, found)| of == stage && found == role)
    };
    assert!(has("estimate", "feature_importance"));
    assert!(has("train", "feature_weights"));
    assert!(has("report", "tables"));
}
