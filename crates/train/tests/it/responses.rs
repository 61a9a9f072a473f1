//! Mode `respond`: models retrained without subsets.

use std::path::Path;

use metrics::{Place as Rank, Ranks};
use stage::{Exit, Io, Label, Stage};
use tables::{NOT_RANKED, Prediction, ProbeRequest, Response, SubsetMember};
use train::Train;

use crate::shop::{Place, bytes, scores, shop};

#[test]
fn responses_are_those_of_models_fitted_without_the_samples() {
    let place = Place::new(shop());
    let left_out: [Vec<u64>; 2] = [3, 5].map(|rest| {
        let mut ids: Vec<u64> = shop()
            .samples
            .iter()
            .map(|sample| sample.sample_id)
            .filter(|id| id % 7 == rest)
            .collect();
        ids.sort_unstable();
        ids
    });
    let rows = (0..).zip(&left_out).flat_map(|(subset, ids)| {
        ids.iter()
            .map(move |&left_out| SubsetMember { subset, left_out })
    });
    let subsets = place.make("subsets");
    tables::write_all(&subsets, rows).unwrap();
    let base = place.run("base", "model: markov\n", &[]).unwrap();
    let mut found: Vec<Vec<Response>> = Vec::new();
    for (regime, wired) in [
        ("drop", vec![("subsets", subsets.clone())]),
        (
            "mask",
            vec![("subsets", subsets.clone()), ("model", base.join("model"))],
        ),
    ] {
        let config = format!("mode: respond\nmodel: markov\nregime: {regime}\nreplicas: 2\n");
        let out = place
            .run(&format!("respond-{regime}"), &config, &wired)
            .unwrap();
        found.push(tables::read_all(&out.join("responses")).unwrap());
    }
    let n = shop().requests.len();
    assert_eq!(found[0].len(), 3 * 2 * n);
    for (drop, mask) in found[0].iter().zip(&found[1]) {
        // A count model has no chance and no batches: regimes and replicas agree.
        assert_eq!((drop.subset, drop.request), (mask.subset, mask.request));
        assert_eq!((drop.loss, drop.ndcg_10), (mask.loss, mask.ndcg_10));
    }
    for (subset, ids) in
        [None, Some(0), Some(1)]
            .into_iter()
            .zip([&Vec::new(), &left_out[0], &left_out[1]])
    {
        let mut without = shop();
        without
            .samples
            .retain(|sample| !ids.contains(&sample.sample_id));
        let without = Place::new(without);
        let out = without.run("fit", "model: markov\n", &[]).unwrap();
        let probe = [("model", out.join("model"))];
        let probe = without.run("probe", "mode: probe\n", &probe).unwrap();
        let expected: Vec<ProbeRequest> = tables::read_all(&probe.join("probe")).unwrap();
        let answers = found[0]
            .iter()
            .filter(|row| row.subset == subset && row.replica == 1);
        for (row, request) in answers.zip(&expected) {
            assert_eq!(row.request, request.request);
            let mean = request.losses.iter().sum::<f64>() / request.losses.len() as f64;
            match row.loss {
                Some(loss) => assert!((loss - mean).abs() < 1e-12, "{row:?} {mean}"),
                None => assert!(request.losses.is_empty()),
            }
        }
    }
    // A sample that is not there is refused by name.
    let wrong = place.make("wrong");
    let member = SubsetMember {
        subset: 0,
        left_out: u64::MAX,
    };
    tables::write_all(&wrong, [member]).unwrap();
    let error = place
        .run("x", "mode: respond\nmodel: markov\n", &[("subsets", wrong)])
        .unwrap_err();
    assert_eq!(error.exit, Exit::Data);
}

#[test]
fn what_a_killed_respond_finished_is_not_trained_again() {
    let place = Place::new(shop());
    let config = "mode: respond\nmodel: markov\nreplicas: 2\n";
    let whole = place.run("whole", config, &[]).unwrap();
    let resume = place.make("resume");
    let run = |out: &str| {
        let mut io = Io::new(place.path(out), "data").with_resume(&resume);
        for role in [
            "samples",
            "sequences",
            "requests",
            "catalogue",
            "item_features",
        ] {
            io = io.with_input(role, Label::default(), place.path(role));
        }
        Train::run(&stage::yaml::parse(config, "t").unwrap(), &io).unwrap();
        bytes(&place.path(out))
    };
    assert_eq!(run("first"), bytes(&whole));
    assert_eq!(std::fs::read_dir(&resume).unwrap().count(), 2);
    std::fs::remove_file(resume.join("response-all-1.safetensors")).unwrap();
    assert_eq!(run("second"), bytes(&whole));
    // What waits there is what is used.
    let path = resume.join("response-all-0.safetensors");
    std::fs::write(&path, b"damaged").unwrap();
    let mut io = Io::new(place.path("third"), "data").with_resume(&resume);
    for role in [
        "samples",
        "sequences",
        "requests",
        "catalogue",
        "item_features",
    ] {
        io = io.with_input(role, Label::default(), place.path(role));
    }
    let error = Train::run(&stage::yaml::parse(config, "t").unwrap(), &io).unwrap_err();
    assert_eq!(error.exit, Exit::Environment);
}

/// NDCG@10 of each request, from where its relevant items were ranked.
fn gains(fitted: &Path) -> Vec<f64> {
    let rows: Vec<Prediction> = tables::read_all(&fitted.join("predictions")).unwrap();
    let of_row = |row: &Prediction| {
        let places = row.better.iter().zip(&row.tied);
        let places =
            places.map(|(&better, &tied)| (better != NOT_RANKED).then(|| Rank::new(better, tied)));
        Ranks::middle(places).ndcg(10)
    };
    rows.iter().map(of_row).collect()
}

#[test]
fn responses_of_a_network_are_those_of_fits_with_the_same_chance() {
    let place = Place::new(shop());
    let is_left_out = |id: u64| id % 7 == 3;
    let mut ids: Vec<u64> = shop()
        .samples
        .iter()
        .map(|sample| sample.sample_id)
        .collect();
    ids.sort_unstable();
    let subset = ids.iter().filter(|id| is_left_out(**id));
    let subsets = place.make("subsets");
    let members = subset.map(|&left_out| SubsetMember {
        subset: 0,
        left_out,
    });
    tables::write_all(&subsets, members).unwrap();
    let lowest = scores(&shop(), &place, "lowest", |sample| {
        Some(if is_left_out(sample.sample_id) {
            -1.0
        } else {
            0.0
        })
    });
    let model = "model: { name: sasrec, dimensions: 8, length: 8, stride: 4, batch: 64, epochs: 3, \
                 learning_rate: 0.01 }\nseed: 5\n";
    let base = place.run("base", model, &[]).unwrap();
    let mut found = Vec::new();
    for regime in ["drop", "mask"] {
        let with = |role: &'static str, path: &Path| {
            let mut wired = vec![(role, path.to_owned())];
            if regime == "mask" {
                wired.push(("model", base.join("model")));
            }
            wired
        };
        let config = format!("{model}regime: {regime}\nact: {{ drop_below: 0 }}\n");
        let acted = place
            .run(
                &format!("acted-{regime}"),
                &config,
                &with("scores", &lowest),
            )
            .unwrap();
        let config = format!("mode: respond\n{model}regime: {regime}\nreplicas: 2\n");
        let out = place
            .run(
                &format!("respond-{regime}"),
                &config,
                &with("subsets", &subsets),
            )
            .unwrap();
        let rows: Vec<Response> = tables::read_all(&out.join("responses")).unwrap();
        let of = |subset: Option<u32>, replica: u32| -> Vec<f64> {
            let chosen = rows
                .iter()
                .filter(|row| row.subset == subset && row.replica == replica);
            chosen.map(|row| row.ndcg_10).collect()
        };
        // The first replica has the chance of a fit; masks keep the steps of its base.
        assert_eq!(of(None, 0), gains(&base), "{regime}");
        assert_eq!(of(Some(0), 0), gains(&acted), "{regime}");
        assert_ne!(of(None, 1), of(None, 0), "replicas differ in chance");
        for (row, request) in rows.iter().zip(shop().requests.iter().cycle()) {
            assert_eq!(row.loss.is_some(), !request.relevant.is_empty());
            assert_eq!(row.regime, regime);
        }
        found.push(of(Some(0), 0));
    }
    assert_ne!(
        found[0], found[1],
        "a masked sample keeps its place in batches"
    );
}
