//! The stage on tables small enough to check by hand.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use evaluate::{Config, Evaluate};
use stage::{Exit, Failure, Io, Label, Stage};
use tables::{
    CatalogueEntry, Conclusion, Event, Measured, Metric, NOT_RANKED, Origin, Part, PerRequest,
    Planted, Prediction, Request, Row, Sample, Score, Suspect,
};

/// A place for inputs and outputs, and the inputs given so far.
struct Bench {
    directory: tempfile::TempDir,
    inputs: Vec<(String, String, PathBuf)>,
}

impl Bench {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            inputs: Vec::new(),
        }
    }

    /// Adds an input of one table.
    fn give<R: Row>(&mut self, role: &str, label: &str, rows: Vec<R>) -> &mut Self {
        let path = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        tables::write_all(&path, rows).unwrap();
        self.inputs.push((role.to_owned(), label.to_owned(), path));
        self
    }

    /// Runs the stage into a directory of its own.
    fn run(&self, out: &str, config: &Config) -> Result<Found, Failure> {
        let out = self.directory.path().join(out);
        let mut io = Io::new(&out, "data");
        for (role, label, path) in &self.inputs {
            io = io.with_input(role, Label::parse(label).unwrap(), path);
        }
        Evaluate::run(config, &io)?;
        Ok(Found {
            metrics: read(&out, "metrics"),
            per_request: read(&out, "per_request"),
            conclusions: read(&out, "conclusions"),
            costs: read(&out, "costs"),
            out,
        })
    }
}

fn read<R: Row>(out: &Path, role: &str) -> Vec<R> {
    tables::read_all(&out.join(role)).unwrap()
}

/// The outputs of one run.
struct Found {
    out: PathBuf,
    metrics: Vec<Metric>,
    per_request: Vec<PerRequest>,
    conclusions: Vec<Conclusion>,
    costs: Vec<Measured>,
}

impl Found {
    /// The one row with these properties, written `family metric part segment node model method`,
    /// where `-` is any or none.
    fn row(&self, key: &str) -> &Metric {
        let words: Vec<&str> = key.split(' ').collect();
        let is_one = |row: &&Metric| {
            let found = [
                row.family.as_str(),
                row.metric.as_str(),
                row.part.as_str(),
                row.segment.as_str(),
                row.node.as_str(),
                row.model.as_deref().unwrap_or("-"),
                row.method.as_deref().unwrap_or("-"),
            ];
            words
                .iter()
                .zip(found)
                .all(|(word, found)| *word == "-" || *word == found)
        };
        let rows: Vec<&Metric> = self.metrics.iter().filter(is_one).collect();
        assert_eq!(rows.len(), 1, "{key}: {rows:#?}");
        rows[0]
    }

    fn close(&self, key: &str, value: f64, n: u64) {
        let row = self.row(key);
        assert!(
            (row.value - value).abs() < 1e-12,
            "{key}: {} is not {value}",
            row.value
        );
        assert_eq!(row.n, n, "{key}");
        if let (Some(low), Some(high)) = (row.low, row.high) {
            assert!(low <= high, "{key}");
        }
    }

    fn says(&self, topic: &str, what: &str) {
        assert!(
            self.conclusions
                .iter()
                .any(|row| row.topic == topic && row.text.contains(what)),
            "nothing about {topic} says {what:?}: {:#?}",
            self.conclusions
        );
    }
}

fn request(request: u32, part: Part, history_end: u32, relevant: &[u32]) -> Request {
    Request {
        request,
        part,
        sequence: request,
        history_end,
        requested_at: Some(tables::Instant(1)),
        relevant: relevant.to_vec(),
    }
}

/// A prediction whose relevant items are new and stand at these ranks, without ties.
fn prediction(request: &Request, ranks: &[u32]) -> Prediction {
    let better: Vec<u32> = ranks
        .iter()
        .map(|&rank| {
            if rank == NOT_RANKED {
                NOT_RANKED
            } else {
                rank - 1
            }
        })
        .collect();
    Prediction {
        request: request.request,
        part: request.part,
        history_length: request.history_end,
        n_candidates: 100,
        relevant: request.relevant.clone(),
        tied: vec![0; better.len()],
        is_repeat: vec![false; better.len()],
        better_new: better.clone(),
        tied_new: vec![0; better.len()],
        better,
        top_items: (0..20).collect(),
        top_scores: vec![0.0; 20],
    }
}

fn discount(rank: f64) -> f64 {
    1.0 / (rank + 1.0).log(2.0)
}

fn quick() -> Config {
    Config {
        resamples: 50,
        permutations: 200,
        ..Config::default()
    }
}

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

/// Eight test requests with one relevant item each.
fn eight_requests() -> Vec<Request> {
    (0..8)
        .map(|index| request(index, Part::Test, 1, &[index]))
        .collect()
}

fn all_at(requests: &[Request], rank: u32) -> Vec<Prediction> {
    requests
        .iter()
        .map(|request| prediction(request, &[rank]))
        .collect()
}

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

fn samples(n: u64) -> Vec<Sample> {
    (0..n)
        .map(|index| Sample {
            sample_id: index << 16,
            sequence: u32::try_from(index).unwrap(),
            position: 0,
            history_end: 0,
            item: 0,
            event: Event::Click,
            occurred_at: None,
            label: 1.0,
            weight: 1.0,
            origin: Origin::Observed,
        })
        .collect()
}

fn scores(method: &str, suspect: Suspect, values: &[Option<f64>]) -> Vec<Score> {
    (0_u64..)
        .zip(values)
        .map(|(index, &score)| Score {
            method: method.to_owned(),
            sample_id: index << 16,
            score,
            std_error: None,
            n_updates: 1,
            suspect,
        })
        .collect()
}

fn planted(samples: &[(u64, &str)]) -> Vec<Planted> {
    samples
        .iter()
        .map(|&(index, kind)| Planted {
            sample_id: index << 16,
            kind: kind.to_owned(),
            clean_item: None,
        })
        .collect()
}

/// A bench with predictions, so that detection can be looked at.
fn detection_bench(planted_samples: &[(u64, &str)], n: u64) -> Bench {
    let requests = eight_requests();
    let mut bench = Bench::new();
    bench
        .give("predictions", "node=model", all_at(&requests, 1))
        .give("requests", "", requests)
        .give("samples", "", samples(n))
        .give("planted", "node=split", planted(planted_samples));
    bench
}

#[test]
fn detection_follows_the_suspicious_end() {
    let mut bench = detection_bench(
        &[
            (0, "label_noise"),
            (1, "label_noise"),
            (2, "event_noise.bot"),
        ],
        12,
    );
    let high: Vec<Option<f64>> = (0..12).map(|index| Some(-f64::from(index))).collect();
    let low: Vec<Option<f64>> = high.iter().map(|value| value.map(|value| -value)).collect();
    let partly: Vec<Option<f64>> = (0..12)
        .map(|index| (index % 2 == 0).then_some(f64::from(index)))
        .collect();
    bench
        .give(
            "scores",
            "method=loss,node=score",
            scores("loss", Suspect::High, &high),
        )
        .give(
            "scores",
            "node=alone",
            scores("helpful", Suspect::Low, &low),
        )
        .give(
            "scores",
            "method=wrong,node=score",
            scores("wrong", Suspect::High, &low),
        )
        .give(
            "scores",
            "method=partly,node=score",
            scores("partly", Suspect::Low, &partly),
        )
        .give(
            "scores",
            "method=random,node=score",
            scores("random", Suspect::Low, &[Some(0.0); 12]),
        );
    let found = bench.run("out", &quick()).unwrap();
    found.close("detection auroc training all score - loss", 1.0, 12);
    found.close(
        "detection average_precision training all score - loss",
        1.0,
        12,
    );
    found.close("detection recall@1x training all score - loss", 1.0, 12);
    found.close("detection precision@2x training all score - loss", 0.5, 12);
    found.close("detection auroc training all alone - helpful", 1.0, 12);
    found.close("detection auroc training all score - wrong", 0.0, 12);
    found.close("detection auroc training all score - random", 0.5, 12);
    found.close(
        "detection auroc_vs_random training all score - loss",
        0.5,
        12,
    );
    found.close(
        "detection auroc_vs_loss training all alone - helpful",
        0.0,
        12,
    );
    found.close("detection planted_frac training all split", 0.25, 12);
    found.close(
        "detection unscored_frac training all score - partly",
        0.5,
        12,
    );
    // By kind, the other kind is set aside.
    found.close(
        "detection auroc training event_noise.bot score - loss",
        1.0,
        10,
    );
    found.close(
        "detection planted_frac training label_noise split",
        2.0 / 11.0,
        11,
    );
    // 27 pairs in order: z = 13.5 / sqrt(27 * 13 / 12) = 2.4962, p = .012554, five scores.
    let p_value = found
        .row("detection auroc training all score - loss")
        .p_value
        .unwrap();
    assert!((p_value - 5.0 * 0.012_554).abs() < 1e-4, "{p_value}");
    // Agreement knows the ends, too.
    let agreement = |method: &str| {
        let is_one = |row: &&Metric| {
            row.metric == "spearman"
                && row.method.as_deref() == Some(method)
                && row.label == "other_method=helpful,other_node=alone"
        };
        found.metrics.iter().find(is_one).unwrap().value
    };
    assert!((agreement("loss") - 1.0).abs() < 1e-12);
    assert!((agreement("wrong") + 1.0).abs() < 1e-12);
    found.says("caution", "`partly` 50 %");
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

#[test]
fn a_split_without_planting_says_so() {
    let mut bench = detection_bench(&[], 3);
    bench.give(
        "scores",
        "method=loss,node=score",
        scores("loss", Suspect::High, &[Some(1.0); 3]),
    );
    let found = bench.run("out", &quick()).unwrap();
    assert!(!found.metrics.iter().any(|row| row.family == "detection"));
    found.says("caution", "Nothing was planted");
}

#[test]
fn costs_lie_apart_from_what_is_not_measured() {
    let requests = eight_requests();
    let measured = |node: &str, wall_ms| Measured {
        node: node.to_owned(),
        stage: "estimate".to_owned(),
        label: "method=loss".to_owned(),
        wall_ms,
        cpu_ms: 1,
        peak_bytes: 1 << 20,
        threads: 1,
        processor: "test".to_owned(),
    };
    let mut without = Bench::new();
    without
        .give("predictions", "", all_at(&requests, 3))
        .give("requests", "", requests);
    let before = without.run("before", &quick()).unwrap();
    without
        .give("measured", "node=b", vec![measured("b", 20)])
        .give("measured", "node=a", vec![measured("a", 10)]);
    let after = without.run("after", &quick()).unwrap();
    let nodes: Vec<&str> = after.costs.iter().map(|row| row.node.as_str()).collect();
    assert_eq!(nodes, ["a", "b"]);
    let sentences: Vec<Conclusion> = read(&after.out, "costs");
    assert!(sentences.iter().all(|row| row.topic == "cost") && sentences.len() == 2);
    for role in ["metrics", "per_request", "conclusions"] {
        let bytes = |found: &Found| {
            std::fs::read(found.out.join(role).join(format!("{role}.parquet"))).unwrap()
        };
        assert!(
            bytes(&before) == bytes(&after),
            "{role} changed with what was measured"
        );
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let mut bench = detection_bench(&[(0, "label_noise"), (5, "label_noise")], 40);
    let values: Vec<Option<f64>> = (0..40)
        .map(|index| Some(f64::from(index * 7 % 11)))
        .collect();
    bench
        .give(
            "scores",
            "method=loss,node=score",
            scores("loss", Suspect::High, &values),
        )
        .give(
            "scores",
            "method=other,node=score",
            scores("other", Suspect::Low, &values),
        );
    let mut outputs = Vec::new();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let found = pool
            .install(|| bench.run(&format!("out{threads}"), &quick()))
            .unwrap();
        outputs.push(std::fs::read(found.out.join("metrics/metrics.parquet")).unwrap());
    }
    assert!(outputs[0] == outputs[1]);
}

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
