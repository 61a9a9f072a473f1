//! Importance of features, and training without some of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use metrics::{Place as Rank, Ranks};
use models::{Exchange, Exchanged, History, Sequences};
use stage::{Exit, Offer, Offers, Seed, Stage};
use tables::{
    FeatureImportance, FeatureWeight, Part, ProbeCompleteness, ProbeFeature, Removal, Request,
};
use train::Train;

use crate::shop::{CUT, Place, Shop, bytes, shop};

const PROBE: &str =
    "mode: probe\nfeature_importance: { requests: 15, repeats: 2, places: 3, steps: 8 }\nseed: 5\n";

fn probed(place: &Place, model: &str) -> Vec<ProbeFeature> {
    let fitted = place
        .run(model, &format!("model: {model}\n"), &[])
        .unwrap()
        .join("model");
    let out = place
        .run(&format!("{model}-probe"), PROBE, &[("model", fitted)])
        .unwrap();
    tables::read_all(&out.join("probe")).unwrap()
}

fn of<'r>(rows: &'r [ProbeFeature], method: &str, feature: &str) -> Vec<&'r ProbeFeature> {
    let found: Vec<&ProbeFeature> = rows
        .iter()
        .filter(|row| row.method == method && row.feature == feature)
        .collect();
    assert!(!found.is_empty(), "{method} {feature}");
    found
}

fn sequences(shop: &Shop) -> Sequences {
    let mut sequences = Sequences::default();
    for row in &shop.sequences {
        sequences.push_row(row).unwrap();
    }
    sequences
}

/// NDCG@10 of a request from all scores, counted anew.
fn ndcg(shop: &Shop, request: &Request, scores: &[f64]) -> f64 {
    let is_candidate = |item: usize| shop.catalogue[item].known_at.is_some_and(|at| at.0 < CUT);
    let places = request.relevant.iter().map(|&item| {
        let own = item as usize;
        is_candidate(own).then(|| {
            let others = (0..scores.len()).filter(|&at| at != own && is_candidate(at));
            let (mut better, mut tied) = (0, 0);
            for at in others {
                better += u32::from(scores[at] > scores[own]);
                tied += u32::from(scores[at].total_cmp(&scores[own]).is_eq());
            }
            Rank::new(better, tied)
        })
    });
    Ranks::middle(places).ndcg(10)
}

#[test]
fn the_only_thing_that_a_chain_looks_at_has_the_drop_counted_by_hand_and_all_else_none() {
    let place = Place::new(shop());
    let rows = probed(&place, "markov");
    for feature in ["place_2", "place_3", "basket"] {
        for method in ["permutation_ndcg", "permutation_loss"] {
            let found = of(&rows, method, feature);
            assert!(found.iter().all(|row| row.value.abs() <= 0.0), "{feature}");
        }
    }
    let shop = shop();
    let sequences = sequences(&shop);
    // Asked for more requests than there are: all with a history and something relevant.
    let requests: Vec<&Request> = shop
        .requests
        .iter()
        .filter(|request| {
            request.part == Part::ValuationFit
                && request.history_end > 0
                && !request.relevant.is_empty()
        })
        .collect();
    let found = of(&rows, "permutation_ndcg", "place_1");
    let asked: Vec<u32> = found
        .iter()
        .filter(|row| row.repeat == 1)
        .map(|row| row.request)
        .collect();
    let requests: Vec<&Request> = requests
        .into_iter()
        .filter(|request| asked.contains(&request.request))
        .collect();
    assert_eq!(asked.len(), 15);
    assert_eq!(requests.len(), 15);
    let histories: Vec<History<'_>> = requests
        .iter()
        .map(|request| {
            let history = sequences.history(request.sequence, request.history_end);
            history.unwrap()
        })
        .collect();
    let seed = Seed::root(5).child("feature_importance").child("exchange");
    let seed = seed.index(1).child("place").child("place_1");
    let exchanged = Exchanged::new(&histories, Exchange::Place(1), seed);
    let (_, model) = models::load(&place.path("markov").join("model")).unwrap();
    let value = |request: &Request, history: History<'_>| {
        let mut scores = vec![0.0; shop.catalogue.len()];
        model.score(None, history, &mut scores);
        ndcg(&shop, request, &scores)
    };
    let mut n_changed = 0;
    let of_repeat = found.iter().filter(|row| row.repeat == 1);
    for ((at, request), row) in requests.iter().enumerate().zip(of_repeat) {
        let wanted = value(request, histories[at]) - value(request, exchanged.history(at));
        // The same ranks in the same formula.
        assert!((row.value - wanted).abs() < 1e-15, "{} {wanted}", row.value);
        n_changed += usize::from(wanted.abs() > 0.0);
    }
    assert!(n_changed > 0);
}

#[test]
fn features_that_weigh_nothing_change_nothing_and_gradients_share_scores_out() {
    let place = Place::new(shop());
    let rows = probed(&place, "logistic_regression");
    // Items are not read.
    for feature in ["text_similarity", "price_distance", "brand_share"] {
        for method in [
            "permutation_ndcg",
            "permutation_loss",
            "integrated_gradients",
        ] {
            let found = of(&rows, method, feature);
            assert!(found.iter().all(|row| row.value.abs() <= 0.0), "{feature}");
        }
    }
    let moved = of(&rows, "permutation_loss", "log_popularity");
    assert!(moved.iter().any(|row| row.value.abs() > 1e-6));
    let probe = place.path("logistic_regression-probe").join("probe");
    let all: Vec<ProbeCompleteness> = tables::read_all(&probe).unwrap();
    assert_eq!(all.len(), 15);
    // A score is linear: twenty summands of up to about 10.
    assert!(all.iter().all(|row| row.gap < 1e-12));
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| row.method == "integrated_gradients")
    {
        *sums.entry(row.request).or_default() += row.value;
    }
    for row in &all {
        assert!((sums[&row.request] - row.sum).abs() < 1e-12);
    }
}

#[test]
fn importance_has_the_same_bytes_on_any_number_of_threads() {
    let on = |n_threads| {
        let place = Place::new(shop());
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .unwrap();
        pool.install(|| {
            for model in ["logistic_regression", "itemknn", "case_study"] {
                probed(&place, model);
            }
        });
        ["logistic_regression", "itemknn", "case_study"]
            .map(|model| bytes(&place.path(&format!("{model}-probe"))))
    };
    assert!(on(1) == on(2));
}

/// A table of importance.
fn importance(place: &Place, name: &str, group: &str, of: &[(&str, f64)]) -> PathBuf {
    let directory = place.make(name);
    let rows = (1..)
        .zip(of)
        .map(|(rank, &(feature, importance))| FeatureImportance {
            method: "random".to_owned(),
            group: group.to_owned(),
            feature: feature.to_owned(),
            rank,
            importance,
            std_error: None,
            mean: None,
            n_requests: 1,
            n_repeats: 1,
            gap: None,
        });
    tables::write_all(&directory, rows).unwrap();
    directory
}

#[test]
fn keeping_all_features_or_weighing_all_alike_is_the_base_bit_for_bit() {
    let place = Place::new(shop());
    for (model, group) in [("logistic_regression", "feature"), ("case_study", "input")] {
        let entry = models::entry(model).unwrap();
        let features = entry.features(&serde_json::Value::Null).unwrap();
        let numbers: Vec<(&str, f64)> = features
            .iter()
            .zip(1..)
            .map(|(f, n)| (*f, f64::from(n)))
            .collect();
        let equal: Vec<(&str, f64)> = features.iter().map(|f| (*f, 0.5)).collect();
        let numbers = importance(&place, &format!("{model}-n"), group, &numbers);
        let equal = importance(&place, &format!("{model}-e"), group, &equal);
        let base = place.run(model, &format!("model: {model}\n"), &[]).unwrap();
        let run = |out: &str, act: &str, wired: &PathBuf| {
            let config = format!("model: {model}\nact: {act}\n");
            let wired = [("feature_importance", wired.clone())];
            place
                .run(&format!("{model}-{out}"), &config, &wired)
                .unwrap()
        };
        let kept = run("kept", "{ select_features: { drop_lowest: 0 } }", &numbers);
        let alike = run("alike", "{ weigh_features: { to: 0.2 } }", &equal);
        let half = run(
            "half",
            "{ select_features: { drop_lowest: 0.5 } }",
            &numbers,
        );
        for output in ["model", "predictions", "training"] {
            let base = bytes(&base.join(output));
            assert!(bytes(&kept.join(output)) == base, "{model} {output}");
            assert!(bytes(&alike.join(output)) == base, "{model} {output}");
        }
        assert!(
            bytes(&half.join("model")) != bytes(&base.join("model")),
            "{model}"
        );
        let weights: Vec<FeatureWeight> = tables::read_all(&half.join("feature_weights")).unwrap();
        let n_left_out = weights.iter().filter(|row| row.weight <= 0.0).count();
        assert_eq!(n_left_out, features.len().div_ceil(2), "{model}");
        let removals: Vec<Removal> = tables::read_all(&half.join("removals")).unwrap();
        assert_eq!((removals.len(), removals[0].n_removed), (1, 0));
        assert_eq!(removals[0].action, "select_features drop_lowest 0.5");
        assert!(Path::new(&half).is_dir());
    }
}

#[test]
fn acting_on_features_is_refused_where_there_are_none_or_nothing_is_wired() {
    let check = |text: &str, kinds: &[&str]| {
        let config = stage::yaml::parse(text, "t").unwrap();
        let offers: Offers = kinds
            .iter()
            .map(|kind| ((*kind).to_owned(), vec![Offer::default()]))
            .collect();
        Train::check(&config, &offers)
    };
    let act = "act: { select_features: { keep: 2 } }\n";
    let wired = &["samples", "feature_importance"];
    for (text, kinds, expected) in [
        (
            format!("model: markov\n{act}"),
            &wired[..],
            "has no features",
        ),
        (format!("model: sasrec\n{act}"), wired, "has no features"),
        (
            format!("model: logistic_regression\n{act}"),
            &["samples"],
            "needs the input `feature_importance`",
        ),
        (
            "model: markov\n".to_owned(),
            wired,
            "does not say what to do",
        ),
        (
            "model: markov\nact: { drop_lowest: 0.1 }\n".to_owned(),
            &["samples", "scores", "feature_importance"],
            "about samples",
        ),
        (
            "mode: probe\nfeature_importance: { part: test }\n".to_owned(),
            &["model"],
            "against a valuation part",
        ),
        (
            "mode: probe\nfeature_importance: { steps: 0 }\n".to_owned(),
            &["model"],
            "nothing would be known",
        ),
    ] {
        let failure = check(&text, kinds).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(failure.to_string().contains(expected), "{text}: {failure}");
    }
    let fine = "model: { name: sasrec, inputs: [events] }\nact: { weigh_features: { to: 0.5 } }\n";
    let offers = check(fine, wired).unwrap();
    assert!(offers.contains_key("feature_weights") && offers.contains_key("removals"));
}
