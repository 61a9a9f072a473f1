//! Inputs and configurations that are refused.

use evaluate::{Config, Evaluate};
use stage::{Exit, Stage};
use tables::{Part, Suspect};

use crate::bench::{
    Bench, all_at, detection_bench, eight_requests, prediction, quick, request, scores,
};

fn refused(bench: &Bench, config: &Config, exit: Exit, what: &[&str]) {
    let failure = bench.run("refused", config).err().unwrap();
    let text = failure.to_string();
    assert_eq!(failure.exit, exit, "{text}");
    assert!(!failure.hints.is_empty(), "{text}");
    for what in what {
        assert!(text.contains(what), "{text} lacks {what}");
    }
}

#[test]
fn inputs_that_contradict_each_other_are_refused() {
    let requests = eight_requests();
    let stranger = prediction(&request(99, Part::Test, 1, &[1]), &[1]);
    let elsewhere = prediction(&request(0, Part::ValuationTune, 1, &[0]), &[1]);
    let irrelevant = prediction(&request(0, Part::Test, 1, &[3]), &[1]);
    let beyond = prediction(&requests[0], &[101]);
    for (prediction, what) in [
        (stranger, "request 99 is unknown"),
        (
            elsewhere,
            "request 0 is of part `test`, not `valuation.tune`",
        ),
        (irrelevant, "request 0 lists item 3 as relevant"),
        (
            beyond,
            "request 0 has 100 better and 0 tied among 100 candidates",
        ),
    ] {
        let mut bench = Bench::new();
        bench.give("requests", "", requests.clone()).give(
            "predictions",
            "model=a,node=model",
            vec![prediction],
        );
        refused(
            &bench,
            &quick(),
            Exit::Data,
            &["`predictions` [model=a,node=model]", what, "same split"],
        );
    }
    let mut bench = Bench::new();
    let twice = vec![
        prediction(&requests[0], &[1]),
        prediction(&requests[0], &[1]),
    ];
    bench
        .give("requests", "", requests)
        .give("predictions", "", twice);
    refused(
        &bench,
        &quick(),
        Exit::Data,
        &["request 0 is answered twice"],
    );
}

#[test]
fn scores_of_other_samples_are_refused() {
    let mut bench = detection_bench(&[(0, "label_noise")], 3);
    bench.give(
        "scores",
        "method=loss,node=score",
        scores("loss", Suspect::High, &[Some(1.0); 4]),
    );
    refused(
        &bench,
        &quick(),
        Exit::Data,
        &["hold sample 196608, which is no training sample"],
    );
    let bench = detection_bench(&[(7, "label_noise")], 3);
    refused(
        &bench,
        &quick(),
        Exit::Data,
        &["`planted` holds sample 458752"],
    );
    let mut bench = detection_bench(&[(0, "label_noise")], 3);
    bench.give(
        "scores",
        "",
        scores("loss", Suspect::High, &[Some(f64::NAN), None, None]),
    );
    refused(
        &bench,
        &quick(),
        Exit::Data,
        &["of sample 0 are not finite"],
    );
    let mut bench = detection_bench(&[(0, "label_noise")], 3);
    let mut mixed = scores("loss", Suspect::High, &[Some(1.0); 3]);
    mixed[2].method = "random".to_owned();
    bench.give("scores", "", mixed);
    refused(&bench, &quick(), Exit::Data, &["mix `loss` and `random`"]);
}

#[test]
fn arms_must_be_known_and_have_one_base() {
    let requests = eight_requests();
    let mut bench = Bench::new();
    bench
        .give("requests", "", requests.clone())
        .give("predictions", "model=a,node=model", all_at(&requests, 1))
        .give("predictions", "model=b,node=model", all_at(&requests, 1))
        .give(
            "acted",
            "method=loss,model=a,node=after",
            all_at(&requests, 1),
        );
    let config = Config {
        arms: [("aftr".to_owned(), "x".to_owned())].into(),
        ..quick()
    };
    refused(
        &bench,
        &config,
        Exit::Configuration,
        &["no node `aftr`", "did you mean `after`?"],
    );
    bench.give("acted", "method=loss,node=after_all", all_at(&requests, 1));
    refused(
        &bench,
        &quick(),
        Exit::Configuration,
        &["no single base of `after_all`", "axis `model`"],
    );
}

#[test]
fn described_fields_are_those_of_the_configuration() {
    let written = serde_json::to_value(Config::default()).unwrap();
    let fields: Vec<&String> = written.as_object().unwrap().keys().collect();
    let mut described: Vec<&str> = Evaluate::description()
        .config
        .iter()
        .map(|field| field.name)
        .collect();
    described.sort_unstable();
    assert_eq!(fields, described);
    let empty: Config = stage::yaml::parse("{}", "test").unwrap();
    assert_eq!(empty, Config::default());
    for field in Evaluate::description().config {
        let default: serde_json::Value =
            stage::yaml::parse(field.default.unwrap(), "test").unwrap();
        assert_eq!(written[field.name], default, "{}", field.name);
    }
}

#[test]
fn unusable_configurations_are_refused() {
    for text in [
        "resamples: 3",
        "permutations: 1",
        "top_frac: 0",
        "top_frac: 1.5",
    ] {
        let config: Config = stage::yaml::parse(text, "test").unwrap();
        let failure = Evaluate::check(&config, &stage::Offers::new()).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(!failure.hints.is_empty());
    }
}
