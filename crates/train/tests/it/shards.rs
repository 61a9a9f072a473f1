//! Probes in parts, put together to the bytes of the whole.

use std::path::PathBuf;

use stage::{Exit, Failure, Label, Stage};
use train::Train;

use crate::shop::{N_USERS, Place, Shop, bytes, shop};

/// Models, what is probed of each, and a file that has to be there.
const PROBED: [(&str, &str, &str); 4] = [
    ("{ name: markov }", "", "transitions.parquet"),
    (
        // Wide enough for several blocks of projected gradients.
        "{ name: sasrec, dimensions: 24, epochs: 2 }",
        "gradients: { measure: ndcg, held_out: valuation.tune, projection: { basis: identity } }\n\
         attention: {}\nhidden_states: true\n",
        "projected.json",
    ),
    (
        "{ name: sasrec, dimensions: 8, epochs: 2 }",
        "gradients: { projection: { basis: pca, rank: 2, table_width: 8 } }\n",
        "projection_fidelity.parquet",
    ),
    (
        "{ name: logistic_regression }",
        "gradients: { projection: { basis: identity } }\n",
        "projected.json",
    ),
];

/// The shop with so many times its users: more than one block of samples.
fn large_shop(times: u32) -> Shop {
    let mut large = shop();
    let (samples, sequences) = (large.samples.clone(), large.sequences.clone());
    let requests = large.requests.clone();
    for time in 1..times {
        let first = time * N_USERS;
        large.samples.extend(samples.iter().cloned().map(|mut row| {
            row.sequence += first;
            row.sample_id += u64::from(first) * 100;
            row
        }));
        large
            .sequences
            .extend(sequences.iter().cloned().map(|mut row| {
                row.sequence += first;
                row.sample_id += u64::from(first) * 100;
                row
            }));
        large
            .requests
            .extend(requests.iter().cloned().map(|mut row| {
                row.sequence += first;
                row
            }));
    }
    large
        .requests
        .sort_by_key(|request| (request.part, request.sequence));
    for (number, request) in (0..).zip(&mut large.requests) {
        request.request = number;
    }
    large
}

fn merge(place: &Place, out: &str, shards: &[PathBuf]) -> Result<PathBuf, Failure> {
    let config = stage::yaml::parse("mode: merge\n", "test.yaml")?;
    let mut io = place.io(out, &[]);
    for (at, shard) in (0..).zip(shards) {
        // Labels come in an order that says nothing.
        let label = Label::parse(&format!("shard={}", 100 - at)).unwrap();
        io = io.with_input("probes", label, shard.join("probe"));
    }
    Train::run(&config, &io)?;
    Ok(place.path(out).join("probe"))
}

#[test]
fn shards_are_put_together_to_the_bytes_of_the_whole() {
    for (number, (model, probed, file)) in PROBED.into_iter().enumerate() {
        let place = Place::new(large_shop(5));
        let keep = if probed.contains("pca") {
            "keep_checkpoints: 2\n"
        } else {
            ""
        };
        let fitted = place
            .run("fit", &format!("model: {model}\n{keep}"), &[])
            .unwrap();
        let mut further = vec![("model", fitted.join("model"))];
        if !keep.is_empty() {
            further.push(("checkpoints", fitted.join("checkpoints")));
        }
        let run = |out: &str, shard: &str| {
            let config = format!("mode: probe\n{probed}{shard}seed: 3\n");
            place.run(out, &config, &further).unwrap()
        };
        let whole = run("whole", "");
        assert!(whole.join("probe").join(file).is_file(), "{number}");
        let n_blocks = std::fs::read_dir(whole.join("probe/projected")).map(|steps| {
            steps.map(|step| std::fs::read_dir(step.unwrap().path()).unwrap().count())
        });
        if number == 1 {
            assert!(n_blocks.unwrap().all(|n| n > 3), "one block is not split");
        }
        for n in [1, 3] {
            let shards: Vec<PathBuf> = (1..=n)
                .map(|at| run(&format!("{at}-of-{n}"), &format!("shard: \"{at}/{n}\"\n")))
                .collect();
            let merged = merge(&place, &format!("merged-{n}"), &shards).unwrap();
            let (whole, merged) = (bytes(&whole.join("probe")), bytes(&merged));
            let names = |files: &std::collections::BTreeMap<PathBuf, Vec<u8>>| {
                files.keys().cloned().collect::<Vec<_>>()
            };
            assert_eq!(names(&whole), names(&merged));
            for (name, file) in &whole {
                assert!(merged[name] == *file, "{model}: `{}`", name.display());
            }
        }
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused_by_name() {
    let place = Place::new(shop());
    let model = |out: &str, seed: u32| {
        let config = format!("model: {{ name: bpr, dimensions: 4, epochs: 2 }}\nseed: {seed}\n");
        place.run(out, &config, &[]).unwrap().join("model")
    };
    let (one, other) = (model("one", 1), model("other", 2));
    let shard = |out: &str, model: &PathBuf, more: &str| {
        let config = format!("mode: probe\n{more}");
        let further = [("model", model.clone())];
        place.run(out, &config, &further).unwrap()
    };
    let first = shard("first", &one, "shard: \"1/2\"\n");
    let second = shard("second", &one, "shard: \"2/2\"\n");
    let stranger = shard("stranger", &other, "shard: \"2/2\"\n");
    let apart = shard("apart", &one, "shard: \"2/2\"\nseed: 9\n");
    let third = shard("third", &one, "shard: \"3/3\"\n");
    let whole = shard("whole", &one, "");
    for (at, (shards, expected, exit)) in [
        (vec![&first], "`2/2` is missing", Exit::Configuration),
        (vec![], "needs the input `probes`", Exit::Configuration),
        (vec![&first, &first], "wired twice", Exit::Configuration),
        (
            vec![&first, &third],
            "different splits",
            Exit::Configuration,
        ),
        (
            vec![&first, &stranger],
            "`inputs` in `shard.json`",
            Exit::Data,
        ),
        (vec![&first, &apart], "`config`", Exit::Data),
        (vec![&whole], "shard.json", Exit::Data),
    ]
    .into_iter()
    .enumerate()
    {
        let shards: Vec<PathBuf> = shards.into_iter().cloned().collect();
        let failure = merge(&place, &format!("merged-{at}"), &shards).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
        assert_eq!(failure.exit, exit, "{failure}");
    }
    assert!(merge(&place, "merged", &[second, first]).is_ok());
}
