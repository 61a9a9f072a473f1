//! The stage on a small probe that is written by hand.

mod results;
mod several;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use stage::{Exit, Io, Label, Offer, Offers, Stage};
use tables::{
    Instant, ItemCount, MethodCard, Part, Preconditioner, ProbeDirection, ProbeRequest,
    ProbeSample, Score, Suspect, Transition,
};
use tensors::projected_layout as layout;
use tensors::{Csr, Tensors};

use crate::{Config, Estimate};

fn config(text: &str) -> Config {
    stage::yaml::parse(text, "test.yaml").unwrap()
}

/// Which optional files a probe has.
#[derive(Clone, Copy, Default)]
struct Has {
    counts: bool,
    transitions: bool,
    losses: bool,
}

const ALL: Has = Has {
    counts: true,
    transitions: true,
    losses: true,
};

/// Three items. User 0 did 0, 1, 1; user 1 did 2, 1. Ids are not in the order of the rows.
fn write_probe(directory: &Path, has: Has) {
    // (id, sequence, item, history length, last item, row)
    let samples = [
        (5 << 16, 0, 0, 0, None, 0),
        (2 << 16, 0, 1, 1, Some(0), 1),
        (9 << 16, 0, 1, 2, Some(1), 2),
        (3 << 16, 1, 2, 0, None, 0),
        (4 << 16, 1, 1, 1, Some(2), 3),
    ];
    let rows = samples.map(
        |(sample_id, sequence, item, history_length, last_item, row)| ProbeSample {
            sample_id,
            sequence,
            item,
            history_length,
            last_item,
            history_row: row,
            occurred_at: Some(Instant(86_400_000 * i64::from(history_length))),
            weight: 1.0,
            loss: has.losses.then_some(f64::from(item)),
        },
    );
    tables::write_all(directory, rows).unwrap();
    // c = [1, 3, 1], N + V = 8; after 0: 1; after 1: 1; after 2: 1.
    let p = [2.0 / 8.0, 4.0 / 8.0, 2.0 / 8.0];
    let loss = |count: f64, row: f64, item: usize| {
        let (count, row) = if has.transitions {
            (count, row)
        } else {
            (0.0, 0.0)
        };
        -libm::log((count + p[item]) / (row + 1.0))
    };
    let request =
        |request, part, last_item, history_row, relevant, losses: Vec<f64>| ProbeRequest {
            request,
            part,
            last_item,
            history_row,
            relevant,
            losses: if has.losses { losses } else { Vec::new() },
        };
    let requests = [
        request(
            0,
            Part::ValuationFit,
            Some(0),
            1,
            vec![1, 2],
            vec![loss(1.0, 1.0, 1), loss(0.0, 1.0, 2)],
        ),
        request(
            1,
            Part::ValuationTune,
            Some(2),
            3,
            vec![0],
            vec![loss(0.0, 1.0, 0)],
        ),
        request(2, Part::Test, None, 0, vec![1], vec![loss(0.0, 0.0, 1)]),
    ];
    tables::write_all(directory, requests).unwrap();
    if has.counts {
        let rows = [1.0, 3.0, 1.0];
        let rows = (0..)
            .zip(rows)
            .map(|(item, weight)| ItemCount { item, weight });
        tables::write_all(directory, rows).unwrap();
    }
    if has.transitions {
        let rows = [0, 1, 2].map(|from_item| Transition {
            from_item,
            to_item: 1,
            weight: 1.0,
        });
        tables::write_all(directory, rows).unwrap();
    }
    let unit = |column| vec![(column, 1.0_f32)];
    let both = vec![(0, 0.6), (1, 0.8)];
    let histories = Csr::from_rows(3, [vec![], unit(0), both, unit(2)]).unwrap();
    let items = Csr::from_rows(3, [unit(0), unit(1), unit(2)]).unwrap();
    let mut tensors = Tensors::new();
    tensors.insert_csr("histories", &histories).unwrap();
    tensors.insert_csr("items", &items).unwrap();
    tensors
        .save(&directory.join("representations.safetensors"))
        .unwrap();
}

/// Projected gradients of the samples with a history, and of these requests.
fn write_projected(directory: &Path, requests: &[u32]) {
    write_projected_with(directory, requests, None);
}

/// The same with gradients of requests that are no target.
fn write_projected_with(directory: &Path, requests: &[u32], held_out: Option<&[u32]>) {
    std::fs::create_dir_all(directory.join(layout::folder(7))).unwrap();
    let index = r#"{"layers":[{"name":"head","start":0,"end":2,"parameters":2,"exact":true}],"width":2,"regularisation":0.5,"n_samples":5,"n_requests":2,"states":[{"step":7,"learning_rate":null,"blocks":2,"curvature_blocks":0}]}"#;
    let index = match held_out {
        Some(_) => index.replace(
            "}]}",
            r#"}],"held_out":{"part":"valuation.tune","n_requests":1}}"#,
        ),
        None => index.to_owned(),
    };
    std::fs::write(directory.join(layout::INDEX), index).unwrap();
    let save = |file: String, name: &str, numbers: &[u32], values: &[f32]| {
        let n = numbers.len();
        let mut tensors = Tensors::new();
        tensors.insert_u32(name, &[n], numbers.to_vec()).unwrap();
        tensors
            .insert_f32(layout::GRADIENT, &[n, 2], values.to_vec())
            .unwrap();
        tensors.save(&directory.join(file)).unwrap();
    };
    save(
        layout::samples(7, 0),
        layout::SAMPLE,
        &[1, 2],
        &[1.0, 0.0, 0.0, 1.0],
    );
    save(layout::samples(7, 1), layout::SAMPLE, &[4], &[1.0, 1.0]);
    let values = [2.0, 0.0].repeat(requests.len());
    save(layout::requests(7), layout::REQUEST, requests, &values);
    if let Some(held_out) = held_out {
        let values = [0.0, 3.0].repeat(held_out.len());
        save(layout::held_out(7), layout::REQUEST, held_out, &values);
    }
}

/// Runs the stage on a probe and reads what it wrote.
fn run(text: &str, has: Has) -> Result<(Vec<Score>, MethodCard), stage::Failure> {
    let folder = tempfile::tempdir().unwrap();
    let (probe, out) = (folder.path().join("probe"), folder.path().join("out"));
    std::fs::create_dir(&probe).unwrap();
    write_probe(&probe, has);
    let io = Io::new(&out, folder.path()).with_input("probe", Label::default(), &probe);
    Estimate::run(&config(text), &io)?;
    let scores = tables::read_all(&out.join("scores")).unwrap();
    let mut cards = tables::read_all::<MethodCard>(&out.join("scores")).unwrap();
    assert_eq!(cards.len(), 1);
    Ok((scores, cards.remove(0)))
}

fn scores(text: &str) -> Vec<Option<f64>> {
    let (scores, card) = run(text, ALL).unwrap();
    let ids: Vec<u64> = scores.iter().map(|row| row.sample_id >> 16).collect();
    assert_eq!(ids, [2, 3, 4, 5, 9]);
    let n_scored = scores.iter().filter(|row| row.score.is_some()).count();
    assert_eq!(
        (card.n_scored, card.n_unscored),
        (n_scored as u64, 5 - n_scored as u64)
    );
    scores.iter().map(|row| row.score).collect()
}

#[test]
fn rows_are_sorted_by_sample_and_hold_every_sample() {
    assert_eq!(
        scores("method: popularity\n"),
        [3.0, 1.0, 3.0, 1.0, 3.0].map(Some)
    );
    assert_eq!(
        scores("method: duplicates\n"),
        [2.0, 1.0, 1.0, 1.0, 2.0].map(Some)
    );
    assert_eq!(
        scores("method: history_length\n"),
        [1.0, 0.0, 1.0, 0.0, 2.0].map(Some)
    );
    assert_eq!(
        scores("method: recency\n"),
        [-1.0, -2.0, -1.0, -2.0, 0.0].map(Some)
    );
    assert_eq!(
        scores("method: loss\n"),
        [1.0, 2.0, 1.0, 0.0, 1.0].map(Some)
    );
}

#[test]
fn samples_without_history_are_unscored_by_neighbours() {
    // One request with the history of sample 2: that is the nearest neighbour, then 9, then 4.
    // Item 2 is no player's label, item 1 is everybody's: each of three adds 1/K of 1/2.
    let found = scores("method: { name: knn_shapley, k: 3 }\n");
    for (found, wanted) in found
        .iter()
        .zip([Some(1.0), None, Some(1.0), None, Some(1.0)])
    {
        match (found, wanted) {
            (Some(found), Some(wanted)) => assert!((found - wanted / 6.0).abs() < 1e-15),
            _ => assert_eq!(*found, wanted),
        }
    }
    // Cosine .6 between samples 2 and 9, none with 4; the target is the same.
    let found = scores("method: { name: knn_density, k: 1 }\n");
    let wanted = [Some(0.6), None, Some(0.0), None, Some(0.6)];
    for (found, wanted) in found.iter().zip(wanted) {
        match (found, wanted) {
            (Some(found), Some(wanted)) => assert!((found - wanted).abs() < 1e-7),
            _ => assert_eq!(*found, wanted),
        }
    }
}

#[test]
fn leave_one_out_is_that_of_the_probed_model() {
    // Markov: sample 2 is the transition 0 -> 1, which the request asks for beside 2.
    let before = -libm::log(1.5 / 2.0) - libm::log(0.25 / 2.0);
    let after = -libm::log(3.0 / 7.0) - libm::log(2.0 / 7.0);
    let markov = scores("method: leave_one_out\n")[0].unwrap();
    assert!((markov - (after - before) / 2.0).abs() < 1e-14, "{markov}");
    let popularity = Has {
        transitions: false,
        ..ALL
    };
    let before = -libm::log(0.5) - libm::log(0.25);
    let (found, card) = run("method: leave_one_out\n", popularity).unwrap();
    let found = found[0].score.unwrap();
    assert!((found - (after - before) / 2.0).abs() < 1e-14, "{found}");
    assert!(card.is_signed && card.estimand.contains("`valuation.fit`"));
    assert_eq!(
        (card.family.as_str(), card.suspect),
        ("retraining", Suspect::Low)
    );
}

#[test]
fn the_target_is_the_part_that_is_asked_for() {
    let fit = scores("method: leave_one_out\n");
    let tune = scores("method: leave_one_out\ntarget: { part: valuation.tune }\n");
    assert_ne!(fit, tune);
    // The sample of item 0 alone makes the target's item more likely.
    assert!(tune[3].unwrap() > 0.0 && tune[0].unwrap() < 0.0);
}

#[test]
fn same_seed_gives_same_bytes_and_another_seed_other_scores() {
    let draw = |seed: u32| scores(&format!("method: random\nseed: {seed}\n"));
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn a_probe_without_what_is_needed_is_refused_when_run_by_hand() {
    for (method, need) in [("leave_one_out", "counts"), ("loss", "losses")] {
        let failure = run(&format!("method: {method}\n"), Has::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(failure.to_string().contains(need), "{failure}");
    }
}

#[test]
fn a_damaged_probe_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    write_probe(folder.path(), ALL);
    let path = folder.path().join("representations.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    tables::read_all::<ProbeSample>(folder.path()).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let io = Io::new(folder.path().join("out"), folder.path());
    let io = io.with_input("probe", Label::default(), folder.path());
    let failure = Estimate::run(&config("method: knn_shapley\n"), &io).unwrap_err();
    assert_eq!(failure.exit, Exit::Data);
    assert!(
        failure.to_string().contains("representations.safetensors"),
        "{failure}"
    );
}

#[test]
fn projected_gradients_are_read_from_the_probe() {
    let influence = |requests: &[u32]| {
        let folder = tempfile::tempdir().unwrap();
        let (probe, out) = (folder.path().join("probe"), folder.path().join("out"));
        std::fs::create_dir(&probe).unwrap();
        write_probe(&probe, ALL);
        write_projected(&probe, requests);
        let io = Io::new(&out, folder.path()).with_input("probe", Label::default(), &probe);
        Estimate::run(&config("method: { name: influence, damping: 0.75 }\n"), &io)?;
        Ok::<_, stage::Failure>(tables::read_all::<Score>(&out.join("scores")).unwrap())
    };
    let rows: Vec<Score> = influence(&[0]).unwrap();
    // H = [2 1; 1 2] / 3, its diagonal's mean 2/3; with 0.5 of the penalty and 0.5 of damping the
    // matrix is [5 1; 1 5] / 3 and its inverse [5 -1; -1 5] / 8. The target is (2, 0) / 2.
    let wanted = [
        (2, Some(5.0)),
        (3, None),
        (4, Some(4.0)),
        (5, None),
        (9, Some(-1.0)),
    ];
    for (row, (id, score)) in rows.iter().zip(wanted) {
        assert_eq!(row.sample_id >> 16, id);
        let (found, wanted) = (row.score, score.map(|score| score / 24.0));
        assert_eq!(found.is_some(), wanted.is_some());
        // A few operations on numbers of about 1.
        assert!((found.unwrap_or(0.0) - wanted.unwrap_or(0.0)).abs() < 1e-15);
    }
    let failure = influence(&[0, 1, 99]).map(drop).unwrap_err();
    assert_eq!(failure.exit, Exit::Data, "{failure}");
    let failure = influence(&[99]).map(drop).unwrap_err();
    assert_eq!(failure.exit, Exit::Configuration, "{failure}");
    assert!(failure.to_string().contains("99"), "{failure}");
}

/// Products of the samples with a history under two preconditioners, at steps 3 and 7.
fn write_directions(directory: &Path, part: Part) {
    let mut rows = Vec::new();
    for (step, preconditioner, scale) in [
        (3, Preconditioner::Adam, 1.0),
        (7, Preconditioner::Adam, 2.0),
        (7, Preconditioner::Ekfac, 3.0),
    ] {
        for id in [2, 3, 4, 5, 9] {
            let has = [2, 4, 9].contains(&id);
            let is_adam = preconditioner == Preconditioner::Adam;
            rows.push(ProbeDirection {
                step,
                preconditioner,
                sample_id: id << 16,
                learning_rate: Some(0.5),
                part,
                target_norm: 2.0,
                product: has.then_some(scale * id as f64),
                self_product: (has && !is_adam).then_some(1.0),
                update_product: (has && is_adam).then_some(-scale),
                update_norm: (has && is_adam).then_some(4.0),
            });
        }
    }
    tables::write_all(directory, rows).unwrap();
}

#[test]
fn directions_are_read_from_the_probe() {
    let run = |method: &str, part: Part| {
        let folder = tempfile::tempdir().unwrap();
        let (probe, out) = (folder.path().join("probe"), folder.path().join("out"));
        std::fs::create_dir(&probe).unwrap();
        write_probe(&probe, ALL);
        write_directions(&probe, part);
        let io = Io::new(&out, folder.path()).with_input("probe", Label::default(), &probe);
        Estimate::run(&config(&format!("method: {method}\n")), &io)?;
        let rows = tables::read_all::<Score>(&out.join("scores")).unwrap();
        Ok::<_, stage::Failure>(rows.into_iter().map(|row| row.score).collect::<Vec<_>>())
    };
    let of = |all: [f64; 3]| {
        let [a, b, c] = all.map(Some);
        vec![a, None, b, None, c]
    };
    let fit = Part::ValuationFit;
    // By sample: 2, 4 and 9 have a history; three of them share the influence.
    assert_eq!(run("ekfac", fit).unwrap(), of([2.0, 4.0, 9.0]));
    assert_eq!(run("tracin_adam", fit).unwrap(), of([3.0, 6.0, 13.5]));
    // Learning rate 0.5 times the cosines -1/8 and -2/8.
    assert_eq!(run("less", fit).unwrap(), of([-0.1875; 3]));
    let failure = run("kfac", fit).unwrap_err();
    assert!(failure.to_string().contains("kfac_direction"), "{failure}");
    let failure = run("ekfac", Part::ValuationTune).unwrap_err();
    assert_eq!(failure.exit, Exit::Configuration, "{failure}");
}

#[test]
fn a_chosen_curvature_is_asked_for_before_it_runs() {
    let chosen = config("method: { name: logra, operator: gauss_newton }\n");
    let failure =
        Estimate::check(&chosen, &offers("sasrec", &["projected_gradients"])).unwrap_err();
    assert!(failure.not_applicable && failure.message.contains("`curvature`"));
    let both = offers("sasrec", &["curvature", "projected_gradients"]);
    Estimate::check(&chosen, &both).unwrap();
}

fn offers(model: &str, capabilities: &[&str]) -> Offers {
    let offer = Offer {
        kind: "probe".to_owned(),
        capabilities: capabilities.iter().map(|&word| word.to_owned()).collect(),
        facts: BTreeMap::from([("model".to_owned(), model.to_owned())]),
    };
    Offers::from([("probe".to_owned(), vec![offer])])
}

#[test]
fn a_method_that_the_probe_cannot_serve_is_not_applicable() {
    let itemknn = offers("itemknn", &["representations"]);
    let failure = Estimate::check(&config("method: leave_one_out\n"), &itemknn).unwrap_err();
    assert!(failure.not_applicable);
    for word in ["leave_one_out", "counts", "itemknn"] {
        assert!(failure.message.contains(word), "{failure}");
    }
    for method in ["knn_shapley", "random"] {
        Estimate::check(&config(&format!("method: {method}\n")), &itemknn).unwrap();
    }
    // Alone, nothing is known against it.
    Estimate::check(&config("method: leave_one_out\n"), &Offers::new()).unwrap();
}

#[test]
fn scores_offer_their_method_and_model() {
    let wired = offers(
        "markov",
        &["counts", "losses", "representations", "transitions"],
    );
    let given = Estimate::check(&config("method: loss\n"), &wired).unwrap();
    let facts = &given["scores"][0].facts;
    let facts: Vec<_> = ["method", "model", "suspect"]
        .map(|fact| facts[fact].as_str())
        .into();
    assert_eq!(facts, ["loss", "markov", "high"]);
}

#[test]
fn defaults_enter_the_normalised_configuration() {
    let bare = serde_json::to_value(config("method: knn_shapley\n")).unwrap();
    let full = config(
        "method: { name: knn_shapley, k: 10 }\ntarget: { part: valuation.fit, reduce: mean }\nseed: 0\n",
    );
    assert_eq!(bare, serde_json::to_value(full).unwrap());
    assert_eq!(bare["method"]["k"], 10);
}

#[test]
fn wrong_configurations_say_what_is_known() {
    for (text, words) in [
        (
            "method: knn_shaply\n",
            &["knn_shaply", "did you mean `knn_shapley`"][..],
        ),
        (
            "method: { name: knn_shapley, kk: 5 }\n",
            &["kk", "did you mean `k`"],
        ),
        (
            "method: { name: knn_shapley, k: 0 }\n",
            &["`k` is 0", ">= 1"],
        ),
        (
            "method: { name: knn_shapley, k: -3 }\n",
            &["knn_shapley", "-3"],
        ),
        ("method: { name: random, k: 5 }\n", &["takes no parameters"]),
        (
            "method: random\ntarget: { part: test }\n",
            &["test", "only judges"],
        ),
        (
            "method: random\ntarget: { part: training }\n",
            &["valuation.fit"],
        ),
    ] {
        let failure = Estimate::check(&config(text), &Offers::new()).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration, "{text}");
        for word in words {
            assert!(failure.to_string().contains(word), "{text}: {failure}");
        }
    }
    for (text, word) in [
        ("metod: random\n", "did you mean `method`"),
        ("method: random\ntarget: { part: tset }\n", "valuation.fit"),
        ("method: random\ntarget: { reduce: sum }\n", "mean"),
    ] {
        let failure = stage::yaml::parse::<Config>(text, "t.yaml").unwrap_err();
        assert!(failure.to_string().contains(word), "{text}: {failure}");
    }
}

#[test]
fn the_description_lists_every_field_and_every_method() {
    let description = Estimate::description();
    let mut fields = BTreeSet::new();
    let all = "method: random\ntiers: {}\ngroups: {}\ninfluences: {}\ntune: { grid: {} }\n";
    let value = serde_json::to_value(config(all)).unwrap();
    for (name, value) in value.as_object().unwrap() {
        match value {
            Value::Object(inner) if name != "method" => {
                fields.extend(inner.keys().map(|key| format!("{name}.{key}")));
            }
            _ => {
                fields.insert(name.clone());
            }
        }
    }
    let listed: BTreeSet<_> = description
        .config
        .iter()
        .map(|field| field.name.to_owned())
        .collect();
    assert_eq!(listed, fields);
    let names: Vec<_> = description.registries["method"]
        .iter()
        .map(|card| card["name"].as_str().unwrap())
        .collect();
    let known: Vec<_> = attribution::METHODS
        .iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, known);
    for card in &description.registries["method"] {
        assert!(!card["doc"].as_str().unwrap().is_empty());
    }
}
