//! What lies where, and that it is the same every time.

use tables::{Conclusion, Measured, Suspect};

use crate::bench::{Bench, Found, all_at, detection_bench, eight_requests, quick, read, scores};

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
