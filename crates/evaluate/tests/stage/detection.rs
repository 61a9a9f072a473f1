//! Who finds what was planted, and what the simulator knows of.

use stage::Exit;
use tables::{Metric, Suspect, Truth};

use crate::bench::{detection_bench, quick, scores};

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

fn truth(kinds: &[&str]) -> Vec<Truth> {
    (0_u64..)
        .zip(kinds)
        .map(|(index, kind)| Truth {
            sample_id: index << 16,
            kind: (*kind).to_owned(),
            affinity: None,
        })
        .collect()
}

#[test]
fn what_the_simulator_knows_is_found_kind_by_kind() {
    // Samples 0 and 1 are planted; 2 and 3 bots, 4 an accident, and a planted bot that counts as
    // planted alone. Events that became no sample have a truth, too.
    let mut bench = detection_bench(&[(0, "label_noise"), (1, "label_noise")], 12);
    let mut kinds = vec!["genuine"; 15];
    (kinds[1], kinds[2], kinds[3], kinds[4], kinds[13]) =
        ("bot", "bot", "bot", "accident", "accident");
    let suspicion: Vec<Option<f64>> = (0..12).map(|index| Some(-f64::from(index))).collect();
    bench
        .give(
            "scores",
            "method=early,node=score",
            scores("early", Suspect::High, &suspicion),
        )
        .give("truth", "node=raw", truth(&kinds));
    let found = bench.run("out", &quick()).unwrap();
    // Two bots among nine, above all seven genuine ones; the accident likewise.
    found.close("detection auroc training truth.bot score - early", 1.0, 9);
    found.close(
        "detection average_precision training truth.accident score - early",
        1.0,
        8,
    );
    found.close("detection truth_frac training truth.bot raw", 2.0 / 9.0, 9);
    let row = found.row("detection auroc training truth.bot score - early");
    assert!(row.low.is_some() && row.protocol.contains("planted samples set aside"));
    // What was planted is judged as if nothing else were known.
    found.close("detection auroc training all score - early", 1.0, 12);
    found.close("detection planted_frac training all split", 1.0 / 6.0, 12);
    assert!(
        !found
            .metrics
            .iter()
            .any(|row| row.segment == "truth.genuine" || row.segment == "truth.label_noise")
    );
    found.says("detection", "the simulator's own noise `accident`");

    // A real log has no truth, and that is no error.
    bench.inputs.retain(|(role, _, _)| role != "truth");
    bench.give("truth", "node=raw", truth(&[]));
    let found = bench.run("real", &quick()).unwrap();
    assert!(
        found
            .metrics
            .iter()
            .all(|row| !row.segment.starts_with("truth"))
    );
    // The truth of another log is.
    bench.inputs.retain(|(role, _, _)| role != "truth");
    bench.give("truth", "node=raw", truth(&["genuine"; 5]));
    let failure = bench.run("other", &quick()).err().unwrap();
    assert_eq!(failure.exit, Exit::Data);
    assert!(failure.to_string().contains("does not speak of sample"));
}

#[test]
fn the_simulators_noise_is_found_where_nothing_was_planted() {
    let mut bench = detection_bench(&[], 6);
    let suspicion: Vec<Option<f64>> = (0..6).map(|index| Some(f64::from(index))).collect();
    bench
        .give(
            "scores",
            "method=late,node=score",
            scores("late", Suspect::High, &suspicion),
        )
        .give(
            "truth",
            "node=raw",
            truth(&["genuine", "genuine", "genuine", "genuine", "bot", "bot"]),
        );
    let found = bench.run("out", &quick()).unwrap();
    found.close("detection auroc training truth.bot score - late", 1.0, 6);
    assert!(
        !found
            .metrics
            .iter()
            .any(|row| row.family == "detection" && row.segment == "all")
    );
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
