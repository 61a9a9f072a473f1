//! What acting changed, and how many samples it took.

use evaluate::Config;
use stage::Exit;
use tables::{Part, Prediction, Removal, Request};

use crate::bench::{Bench, all_at, discount, eight_requests, prediction, quick, request};

#[test]
fn actions_are_compared_with_base_random_and_oracle() {
    let requests = eight_requests();
    let mut bench = Bench::new();
    bench
        .give("requests", "", requests.clone())
        .give(
            "predictions",
            "model=markov,node=model",
            all_at(&requests, 2),
        )
        .give(
            "predictions",
            "model=other,node=model",
            all_at(&requests, 4),
        )
        .give(
            "acted",
            "method=loss,model=markov,node=after",
            all_at(&requests, 1),
        )
        .give(
            "acted",
            "method=random,model=markov,node=after",
            all_at(&requests, 2),
        )
        .give(
            "acted",
            "model=markov,node=after_planted",
            all_at(&requests, 1),
        );
    let config = Config {
        arms: [(
            "after_planted".to_owned(),
            "drop exactly the planted".to_owned(),
        )]
        .into(),
        ..quick()
    };
    let found = bench.run("out", &config).unwrap();
    let gain = 1.0 - discount(2.0);
    found.close("action ndcg@10 test all model markov", discount(2.0), 8);
    found.close("action ndcg@10 test all after markov loss", 1.0, 8);
    found.close("action ndcg@10_vs_base test all after markov loss", gain, 8);
    found.close(
        "action ndcg@10_vs_random test all after markov loss",
        gain,
        8,
    );
    found.close(
        "action ndcg@10_vs_oracle test all after markov loss",
        0.0,
        8,
    );
    found.close(
        "action ndcg@10_vs_base test all after markov random",
        0.0,
        8,
    );
    found.close(
        "action accuracy_vs_base test all after_planted markov",
        1.0,
        8,
    );
    // Eight equal differences: 2 of 256 sign patterns; Holm over three arms.
    let p_value = |key: &str| found.row(key).p_value.unwrap();
    assert!(
        (p_value("action ndcg@10_vs_base test all after markov loss") - 6.0 / 256.0).abs() < 1e-12
    );
    assert!((p_value("action ndcg@10_vs_base test all after markov random") - 1.0).abs() < 1e-12);
    // Against random there are two: the arm and the oracle.
    assert!(
        (p_value("action ndcg@10_vs_random test all after markov loss") - 4.0 / 256.0).abs()
            < 1e-12
    );
    let row = found.row("action ndcg@10 test all after_planted markov");
    assert_eq!(row.action.as_deref(), Some("drop exactly the planted"));
    assert!(
        found
            .row("action ndcg@10 test all model markov")
            .action
            .is_none()
    );
    assert!(
        !found
            .metrics
            .iter()
            .any(|row| row.family == "action" && row.model.as_deref() == Some("other"))
    );
    found.says("action", "Acting on `loss`");
    found.says(
        "action",
        "improves `markov` on test: NDCG@10 from 0.6309 to 1.0000",
    );
    found.says("action", "It is better than acting at random");
}

#[test]
fn the_arm_is_chosen_where_the_test_part_is_not_seen() {
    let mut requests = eight_requests();
    requests.extend((8..16).map(|index| request(index, Part::ValuationTune, 1, &[index])));
    let ranked = |tune: u32, test: u32| -> Vec<Prediction> {
        let rank = |request: &Request| {
            if request.part == Part::Test {
                test
            } else {
                tune
            }
        };
        requests
            .iter()
            .map(|request| prediction(request, &[rank(request)]))
            .collect()
    };
    let mut bench = Bench::new();
    bench
        .give("requests", "", requests.clone())
        .give("predictions", "model=markov,node=model", ranked(5, 5))
        .give("acted", "method=loss,model=markov,node=after", ranked(4, 1))
        .give(
            "acted",
            "method=recency,model=markov,node=after",
            ranked(1, 6),
        );
    let found = bench.run("out", &quick()).unwrap();
    found.says(
        "action",
        "Acting on `recency` (best on valuation.tune) worsens `markov`",
    );
    found.close("ranking mrr@10 valuation.tune all model markov", 0.2, 8);
}

/// A bench with a base, and arms of `loss` and `random`, which act in nodes of their own.
fn arms_bench() -> Bench {
    let requests = eight_requests();
    let mut bench = Bench::new();
    bench
        .give("requests", "", requests.clone())
        .give(
            "predictions",
            "model=markov,node=model",
            all_at(&requests, 2),
        )
        .give(
            "acted",
            "method=loss,model=markov,node=after_own",
            all_at(&requests, 1),
        )
        .give(
            "acted",
            "method=random,model=markov,node=after",
            all_at(&requests, 3),
        )
        .give(
            "acted",
            "model=markov,node=after_planted",
            all_at(&requests, 1),
        );
    bench
}

fn removal(method: &str, n_scored: u64, n_wanted: Option<u64>, n_removed: u64) -> Vec<Removal> {
    vec![Removal {
        method: method.to_owned(),
        regime: "drop".to_owned(),
        n_samples: 1000,
        n_scored,
        n_wanted,
        n_removed,
        action: "drop_lowest 0.2".to_owned(),
        n_reweighted: 0,
        factor_sum: (1000 - n_removed) as f64,
    }]
}

#[test]
fn the_lead_is_set_beside_random_even_where_that_acted_in_another_node() {
    let found = arms_bench().run("out", &quick()).unwrap();
    found.says("action", "Acting on `loss`");
    found.says("action", "; acting at random -0.1309");
}

#[test]
fn arms_of_unequal_size_are_told() {
    let mut bench = arms_bench();
    bench
        .give(
            "removals",
            "method=loss,model=markov,node=after_own",
            removal("loss", 150, Some(200), 150),
        )
        .give(
            "removals",
            "method=random,model=markov,node=after",
            removal("random", 1000, Some(200), 200),
        )
        .give(
            "removals",
            "model=markov,node=after_planted",
            removal("oracle", 1000, None, 190),
        );
    let found = bench.run("out", &quick()).unwrap();
    found.close(
        "action n_removed training all after_own markov loss",
        150.0,
        1000,
    );
    found.close(
        "action n_removed training all after markov random",
        200.0,
        1000,
    );
    found.close(
        "action n_removed training all after_planted markov",
        190.0,
        1000,
    );
    let row = found.row("action n_removed training all after_own markov loss");
    assert!(
        row.protocol
            .contains("200 were to be removed; 150 of 1000 have a score")
    );
    found.says("caution", "`loss` on `markov` removed 150 (at random 200)");
    // The bound is what it is: nobody expects it to be of that size.
    assert!(
        !found
            .conclusions
            .iter()
            .any(|row| row.text.contains("removed 190"))
    );

    // Equal arms need no caution.
    let mut bench = arms_bench();
    bench
        .give(
            "removals",
            "method=loss,model=markov,node=after_own",
            removal("loss", 900, Some(200), 200),
        )
        .give(
            "removals",
            "method=random,model=markov,node=after",
            removal("random", 1000, Some(200), 200),
        );
    let found = bench.run("out", &quick()).unwrap();
    assert!(
        !found
            .conclusions
            .iter()
            .any(|row| row.text.contains("removed"))
    );

    // Of nodes that are not wired nothing can be said.
    bench.give(
        "removals",
        "method=loss,model=markov,node=elsewhere",
        removal("loss", 900, Some(200), 200),
    );
    let failure = bench.run("elsewhere", &quick()).err().unwrap();
    assert_eq!(failure.exit, Exit::Configuration);
    assert!(
        failure
            .to_string()
            .contains("belong to no input of `acted`")
    );
}
