//! Agreement with the shared oracle files, which other tools produced. Skipped where they are absent.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;

use metrics::{
    Gain, Judged, Place, Ranks, Suspects, Ties, auc, expected_ndcg, gauc, graded_ndcg,
    linear_datamodeling_score, log_loss, places, two_means,
};
use serde_json::Value;

const TOLERANCE: f64 = 1e-9;

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn oracle(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/oracles")
        .join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no `{name}` beside the checkout");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap();
    values.iter().map(|value| value.as_f64().unwrap()).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    let values = value.as_array().unwrap();
    values
        .iter()
        .map(|value| usize::try_from(value.as_u64().unwrap()).unwrap())
        .collect()
}

fn check(what: &str, found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() < TOLERANCE,
        "{what}: {found} is not {wanted}"
    );
}

/// Judgements of one query with their places in its run.
fn judged(qrels: &Value, run: Option<&Value>) -> Vec<Judged> {
    let mut by_document: BTreeMap<&str, Place> = BTreeMap::new();
    if let Some(run) = run {
        let run = run.as_object().unwrap();
        let scores: Vec<f64> = run.values().map(|score| score.as_f64().unwrap()).collect();
        for (document, place) in run.keys().zip(places(&scores).unwrap()) {
            by_document.insert(document, place);
        }
    }
    qrels
        .as_object()
        .unwrap()
        .iter()
        .map(|(document, grade)| Judged {
            place: by_document.get(document.as_str()).copied(),
            grade: grade.as_f64().unwrap(),
        })
        .collect()
}

#[test]
fn ranking_metrics_agree_with_established_tools() {
    let Some(oracle) = oracle("ranking_metrics.json") else {
        return;
    };
    let k = 5;
    assert_eq!(oracle["k"], 5);
    let mut n_checked = 0;
    for (name, metric) in oracle["metrics"].as_object().unwrap() {
        let mut values = BTreeMap::new();
        for query in oracle["queries"].as_array().unwrap() {
            let query = query.as_str().unwrap();
            let judged = judged(&oracle["qrels"][query], oracle["run"].get(query));
            let relevant: Vec<Option<Place>> = judged
                .iter()
                .filter(|document| document.grade > 0.0)
                .map(|document| document.place)
                .collect();
            let ranks = Ranks::new(&relevant, Ties::Middle);
            let found = match name.as_str() {
                "ndcg@5_linear" => graded_ndcg(&judged, k, Gain::Linear, Ties::Middle),
                "ndcg@5_exponential" => graded_ndcg(&judged, k, Gain::Exponential, Ties::Middle),
                "ndcg@5_full_ideal" => ranks.ndcg_full_ideal(k),
                "recall@5" => ranks.recall(k),
                "recall_cal@5" => ranks.recall_calibrated(k),
                "mrr@5" => ranks.reciprocal_rank(k),
                "map@5" => ranks.average_precision(k),
                "map_trec@5" => ranks.average_precision_trec(k),
                "map@5_elliot" => ranks.mean_precision(k),
                "precision@5" => ranks.precision(k),
                "hit_rate@5" => ranks.hit_rate(k),
                unknown => panic!("the oracle holds a metric that is not checked: {unknown}"),
            };
            check(
                &format!("{name} of {query}"),
                found,
                metric["values"][query].as_f64().unwrap(),
            );
            values.insert(query.to_owned(), (found, !ranks.is_empty()));
            n_checked += 1;
        }
        // The project's convention: every query with a relevant document, a missing run = 0.
        let counted: Vec<f64> = values
            .values()
            .filter(|(_, has)| *has)
            .map(|(value, _)| *value)
            .collect();
        let mean = counted.iter().sum::<f64>() / counted.len() as f64;
        check(
            name,
            mean,
            metric["means"]["with_relevant"].as_f64().unwrap(),
        );
    }
    assert_eq!(n_checked, 55);
}

#[test]
fn tie_rules_agree_with_established_tools() {
    let Some(oracle) = oracle("ranking_metrics.json") else {
        return;
    };
    let run = &oracle["ties"]["run"];
    for case in oracle["ties"]["cases"].as_array().unwrap() {
        let relevant = case["relevant"].as_str().unwrap();
        let judged = judged(&serde_json::json!({ relevant: 1 }), Some(run));
        let wanted = |name: &str| case[name].as_f64().unwrap();
        let ndcg = |ties| graded_ndcg(&judged, 5, Gain::Linear, ties);
        check("mid_rank", ndcg(Ties::Middle), wanted("mid_rank"));
        check("optimistic", ndcg(Ties::Optimistic), wanted("optimistic"));
        check(
            "pessimistic",
            ndcg(Ties::Pessimistic),
            wanted("pessimistic"),
        );
        check(
            "expected",
            expected_ndcg(&judged, 5, Gain::Linear),
            wanted("expected"),
        );
        let places = [judged[0].place];
        check(
            "ranks",
            Ranks::new(&places, Ties::Optimistic).ndcg(5),
            wanted("optimistic"),
        );
        check(
            "ranks",
            Ranks::new(&places, Ties::Pessimistic).ndcg(5),
            wanted("pessimistic"),
        );
    }
}

#[test]
fn classification_agrees_with_established_tools() {
    let Some(oracle) = oracle("ranking_metrics.json") else {
        return;
    };
    let oracle = &oracle["auc"];
    let labels: Vec<bool> = numbers(&oracle["labels"])
        .iter()
        .map(|label| *label > 0.5)
        .collect();
    let scores = numbers(&oracle["scores"]);
    let groups: Vec<u64> = indices(&oracle["groups"])
        .iter()
        .map(|group| *group as u64)
        .collect();
    let wanted = |name: &str| oracle[name].as_f64().unwrap();
    let found = auc(&labels, &scores).unwrap();
    check("half credit", found.half_credit, wanted("auc_half_credit"));
    check("strict", found.strict, wanted("auc_strict_greater"));
    let found = gauc(&labels, &scores, &groups).unwrap();
    check(
        "impressions",
        found.by_impressions,
        wanted("gauc_impression_weighted"),
    );
    check(
        "positives",
        found.by_positives,
        wanted("gauc_positive_weighted"),
    );
    check("unweighted", found.unweighted, wanted("gauc_unweighted"));
    for (group, value) in oracle["per_group"].as_object().unwrap() {
        let group: u64 = group.parse().unwrap();
        match value["auc"].as_f64() {
            Some(wanted) => check("group", found.per_group[&group], wanted),
            None => assert!(found.dropped.contains(&group)),
        }
    }
    check(
        "log-loss",
        log_loss(&labels, &scores).unwrap(),
        wanted("log_loss"),
    );
}

#[test]
fn detection_agrees_with_opendataval_and_the_table_of_the_oracles() {
    let Some(oracle) = oracle("metrics.json") else {
        return;
    };
    // The table in the oracles' README: n, AUROC, average precision, recall at 1x and 2x.
    let table = [
        (12, 0.888_888_888_9, 0.638_888_888_9, 0.666_666_666_7, 1.0),
        (40, 0.882_812_5, 0.703_272_604_6, 0.5, 0.875),
        (100, 0.808_888_888_9, 0.482_901_618_2, 0.3, 0.6),
    ];
    let cases = oracle["odv_kmeans_f1"].as_array().unwrap();
    assert_eq!(cases.len(), table.len());
    for (case, (n, auroc, precision, recall_1x, recall_2x)) in cases.iter().zip(table) {
        let values = numbers(&case["values"]);
        assert_eq!(values.len(), n);
        let mut is_noisy = vec![false; n];
        for index in indices(&case["noisy"]) {
            is_noisy[index] = true;
        }
        let mut ascending = values.clone();
        ascending.sort_by(f64::total_cmp);
        let last = two_means(&ascending).unwrap();
        let low: Vec<usize> = (0..n).filter(|&index| values[index] <= last).collect();
        assert_eq!(low, indices(&case["low_cluster"]));
        let suspicion: Vec<Option<f64>> = values.iter().map(|value| Some(-value)).collect();
        let found = Suspects::new(&suspicion, &is_noisy).unwrap().figures();
        check("f1", found.f1, case["f1"].as_f64().unwrap());
        check("auroc", found.auroc, auroc);
        check("average precision", found.average_precision, precision);
        check("recall at 1x", found.recall[0], recall_1x);
        check("recall at 2x", found.recall[1], recall_2x);
        check("precision at 1x", found.precision[0], recall_1x);
    }
}

#[test]
fn the_lds_agrees_with_dattri() {
    let Some(oracle) = oracle("metrics.json") else {
        return;
    };
    let found = linear_datamodeling_score(
        &[vec![0.1, 0.2, 0.3, 0.4], vec![0.2, 0.1, 0.3, 0.4]],
        &[vec![0, 1], vec![0, 2], vec![1, 2]],
        &[vec![0.3, 0.3], vec![0.4, 0.4], vec![0.5, 0.3]],
    )
    .unwrap();
    for (found, wanted) in found.into_iter().zip(numbers(&oracle["lds"])) {
        check("lds", found.unwrap(), wanted);
    }
}
