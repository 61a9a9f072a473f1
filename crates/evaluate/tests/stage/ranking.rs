//! Ranking figures, and replicates.

use tables::{CatalogueEntry, NOT_RANKED, Part, Prediction, Request, Suspect};

use crate::bench::{
    Bench, all_at, detection_bench, discount, eight_requests, prediction, quick, request, scores,
};

/// Four test requests: a repeat and a new item, a user without history, a cold item, and one that
/// model `a` leaves out.
fn four_requests() -> (Vec<Request>, Vec<Prediction>, Vec<Prediction>) {
    let requests = vec![
        request(0, Part::Test, 3, &[1, 2]),
        request(1, Part::Test, 0, &[7]),
        request(2, Part::Test, 4, &[5]),
        request(3, Part::Test, 4, &[6]),
    ];
    let first = Prediction {
        is_repeat: vec![true, false],
        better_new: vec![NOT_RANKED, 2],
        ..prediction(&requests[0], &[1, 5])
    };
    // Ranks 10, 11, 12 are tied: mid-rank 11.
    let second = Prediction {
        tied: vec![2],
        tied_new: vec![2],
        ..prediction(&requests[1], &[10])
    };
    let third = prediction(&requests[2], &[NOT_RANKED]);
    let fourth = prediction(&requests[3], &[1]);
    let a = vec![first.clone(), second.clone(), third.clone()];
    let b = vec![first, second, third, fourth];
    (requests, a, b)
}

#[test]
fn ranking_figures_are_those_counted_by_hand() {
    let (requests, a, b) = four_requests();
    let mut bench = Bench::new();
    bench
        .give("requests", "", requests)
        .give("predictions", "model=a,node=model", a)
        .give("predictions", "model=b,node=model", b)
        .give(
            "catalogue",
            "",
            (0..40)
                .map(|item| CatalogueEntry {
                    item,
                    item_id: item.to_string(),
                    known_at: None,
                    in_vocabulary: item < 20,
                })
                .collect(),
        );
    let found = bench.run("out", &quick()).unwrap();
    found.close("ranking accuracy test all model a", 0.25, 4);
    found.close("ranking hit_rate@10 test all model a", 0.25, 4);
    found.close("ranking hit_rate@20 test all model a", 0.5, 4);
    found.close("ranking precision@5 test all model a", 0.4 / 4.0, 4);
    found.close("ranking recall@20 test all model a", 2.0 / 4.0, 4);
    found.close("ranking f1@5 test all model a", 4.0 / 7.0 / 4.0, 4);
    found.close(
        "ranking mrr@20 test all model a",
        (1.0 + 1.0 / 11.0) / 4.0,
        4,
    );
    let ndcg = (1.0 + discount(5.0)) / (1.0 + discount(2.0));
    found.close("ranking ndcg@5 test all model a", ndcg / 4.0, 4);
    found.close("ranking ndcg@5 test all model b", (ndcg + 1.0) / 4.0, 4);
    found.close("ranking map@5 test all model a", 0.7 / 4.0, 4);
    // New items: rank 3 of the first request; the request that `a` left out counts 0.
    found.close("ranking mrr@5 test new model a", 1.0 / 3.0 / 4.0, 4);
    found.close("ranking mrr@5 test new model b", (1.0 / 3.0 + 1.0) / 4.0, 4);
    found.close("ranking mrr@5 test repeat model a", 1.0, 1);
    found.close("ranking hit_rate@20 test cold model a", 1.0, 1);
    found.close("ranking hit_rate@10 test cold model a", 0.0, 1);
    // One repeat and one cold item among the relevant items that were answered.
    found.close("ranking repeat_frac test all model b", 1.0 / 5.0, 5);
    found.close("ranking cold_frac test all model b", 1.0 / 5.0, 5);
    found.close("ranking repeat_frac test all model a", 1.0 / 4.0, 4);
    found.close("ranking coverage@10 test all model b", 0.5, 4);
    // Models differ in one request: the smaller p-value of two sign patterns is 1.
    let row = found.row("ranking ndcg@10_vs_other test all model a");
    assert!((row.value + 0.25).abs() < 1e-12);
    assert!((row.p_value.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(row.label, "other_model=b,other_node=model");
    found.says("ranking", "`b` ranks best");
    found.says("ranking", "It is indistinguishable from `a`: +0.2500");
    found.says("caution", "left 1 requests unanswered");
    found.says("caution", "Only 4 test requests");

    let keys: Vec<(&str, u32)> = found
        .per_request
        .iter()
        .map(|row| (row.label.as_str(), row.request))
        .collect();
    let wanted: Vec<(&str, u32)> = ["model=a", "model=b"]
        .iter()
        .flat_map(|label| (0..4).map(|r| (*label, r)))
        .collect();
    assert_eq!(keys, wanted);
    assert_eq!(found.per_request[0].n_relevant, 2);
    assert!((found.per_request[3].hit_rate_10).abs() < 1e-12);
    assert!(found.costs.is_empty());
}

#[test]
fn seeds_are_averaged_and_their_spread_is_told() {
    let requests = eight_requests();
    let mut bench = detection_bench(&[(0, "label_noise")], 5);
    bench.inputs.retain(|(role, _, _)| role != "predictions");
    bench
        .give(
            "predictions",
            "model=m,node=model,seed=1",
            all_at(&requests, 1),
        )
        .give(
            "predictions",
            "model=m,node=model,seed=2",
            all_at(&requests, 2),
        )
        .give(
            "scores",
            "method=x,node=score,seed=1",
            scores(
                "x",
                Suspect::High,
                &[Some(1.0), Some(0.0), Some(0.0), Some(0.0), Some(0.0)],
            ),
        )
        .give(
            "scores",
            "method=x,node=score,seed=2",
            scores("x", Suspect::High, &[Some(0.0); 5]),
        );
    let found = bench.run("out", &quick()).unwrap();
    found.close("ranking mrr@10 test all model m", 0.75, 8);
    found.close(
        "ranking mrr@10_seed_std test all model m",
        0.125_f64.sqrt(),
        2,
    );
    found.close("detection auroc training all score - x", 0.75, 5);
    found.close(
        "detection auroc_seed_std training all score - x",
        0.125_f64.sqrt(),
        2,
    );
    assert_eq!(found.per_request.len(), 16);
}

#[test]
fn without_optional_inputs_there_is_ranking_alone() {
    let requests = eight_requests();
    let mut bench = Bench::new();
    bench
        .give("predictions", "", all_at(&requests, 3))
        .give("requests", "", requests);
    let found = bench.run("out", &quick()).unwrap();
    assert!(found.metrics.iter().all(|row| row.family == "ranking"));
    assert!(
        found
            .metrics
            .iter()
            .all(|row| row.node == "predictions" && !row.protocol.is_empty())
    );
    assert!(
        !found
            .metrics
            .iter()
            .any(|row| row.metric.starts_with("coverage"))
    );
    found.says("ranking", "`predictions` ranks with NDCG@10 0.5000");
}
