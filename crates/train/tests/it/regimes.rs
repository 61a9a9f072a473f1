//! What removal means: dropped samples were never there, masked ones keep everybody else's chance.

use std::path::{Path, PathBuf};

use tables::{Part, Removal, Sample, TrainingEpoch};

use crate::shop::{Place, Shop, bytes, scores, shop};

#[test]
fn dropping_is_the_same_as_never_having_had() {
    let is_planted = |sample: &Sample| sample.sample_id % 7 == 3;
    let place = Place::new(shop());
    let oracle = scores(&shop(), &place, "oracle", |sample| {
        Some(if is_planted(sample) { -1.0 } else { 0.0 })
    });
    let mut without = shop();
    without.samples.retain(|sample| !is_planted(sample));
    let without = Place::new(without);
    for model in ["popularity", "markov", "itemknn"] {
        let config = format!("model: {model}\nact: {{ drop_below: 0 }}\n");
        let acted = place
            .run(model, &config, &[("scores", oracle.clone())])
            .unwrap();
        let never = without
            .run(model, &format!("model: {model}\n"), &[])
            .unwrap();
        let mut acted = bytes(&acted);
        let removals = acted.remove(Path::new("removals/removals.parquet"));
        assert!(removals.is_some(), "{model}");
        assert!(acted == bytes(&never), "{model}");
    }
    let share = "model: markov\nact: { drop_lowest: 0.25 }\nseed: 3\n";
    let acted = place.run("share", share, &[("scores", oracle)]).unwrap();
    let rows: Vec<TrainingEpoch> = tables::read_all(&acted.join("training")).unwrap();
    let n = shop().samples.len();
    assert_eq!(n as u64 - rows[0].n_samples, (n as u64 + 2) / 4);
    let removals: Vec<Removal> = tables::read_all(&acted.join("removals")).unwrap();
    assert_eq!(removals.len(), 1);
    let removal = &removals[0];
    assert_eq!(removal.n_removed, n as u64 - rows[0].n_samples);
    assert_eq!(removal.n_wanted, Some(removal.n_removed));
    assert_eq!((removal.n_samples, removal.n_scored), (n as u64, n as u64));
}

#[test]
fn soft_weights_are_those_of_the_samples() {
    let place = Place::new(shop());
    let constant = scores(&shop(), &place, "constant", |_| Some(-0.3));
    let planted = scores(&shop(), &place, "planted", |sample| {
        Some(if sample.sample_id % 7 == 3 { -1.0 } else { 0.0 })
    });
    let run = |out: &str, config: &str, scores: &PathBuf| {
        let out = place.run(out, config, &[("scores", scores.clone())]);
        let mut files = bytes(&out.unwrap());
        let removals = files.remove(Path::new("removals/removals.parquet"));
        assert!(removals.is_some());
        files
    };
    for model in models::REGISTRY.iter().map(|entry| entry.name) {
        let plain = format!("model: {model}\n");
        let base = place.run(&format!("base-{model}"), &plain, &[]).unwrap();
        let base = bytes(&base);
        for shape in ["rank", "sigmoid"] {
            let config = format!("{plain}act: {{ reweight: {{ to: 0.2, shape: {shape} }} }}\n");
            let same = run(&format!("{model}-{shape}-constant"), &config, &constant);
            assert!(
                same == base,
                "{model}, {shape}: constant scores changed the model"
            );
            let other = run(&format!("{model}-{shape}-planted"), &config, &planted);
            // Weights must reach the model.
            assert!(other != base, "{model}, {shape}");
        }
    }
    // What the model sees is what `samples` would hold.
    let to = 0.5;
    let n = shop().samples.len() as f64;
    let is_planted = |sample: &Sample| sample.sample_id % 7 == 3;
    let n_low = shop()
        .samples
        .iter()
        .filter(|sample| is_planted(sample))
        .count() as f64;
    let mut by_hand = shop();
    for sample in &mut by_hand.samples {
        // Mid-ranks from 1 to n, and the ramp from 0.5 to 1 over its mean 0.75.
        let rank = if is_planted(sample) {
            f64::midpoint(n_low, 1.0)
        } else {
            n_low + f64::midpoint(n - n_low, 1.0)
        };
        let place = (2.0 * rank - n - 1.0) / (n - 1.0);
        sample.weight = 1.0 + (1.0 - to) / (1.0 + to) * place;
    }
    let by_hand = Place::new(by_hand);
    let by_hand = by_hand.run("markov", "model: markov\n", &[]).unwrap();
    let config = "model: markov\nact: { reweight: { to: 0.5 } }\n";
    assert!(run("markov", config, &planted) == bytes(&by_hand));
}

#[test]
fn a_mask_of_nothing_repeats_the_base_and_a_mask_of_something_is_weight_zero() {
    let place = Place::new(shop());
    let nothing = scores(&shop(), &place, "nothing", |_| Some(0.0));
    let some = scores(&shop(), &place, "some", |sample| {
        Some(if sample.sample_id % 7 == 3 { -1.0 } else { 0.0 })
    });
    let weights = |out: &Path| std::fs::read(out.join("model/weights.safetensors")).unwrap();
    let predictions = |out: &Path| bytes(&out.join("predictions"));
    for model in models::REGISTRY.iter().map(|entry| entry.name) {
        let plain = format!("model: {model}\n");
        let base = place.run(&format!("base-{model}"), &plain, &[]).unwrap();
        let mask = format!("model: {model}\nregime: mask\nact: {{ drop_below: 0 }}\n");
        let wired =
            |scores: &PathBuf| vec![("scores", scores.clone()), ("model", base.join("model"))];
        let repeated = place
            .run(&format!("same-{model}"), &mask, &wired(&nothing))
            .unwrap();
        assert!(weights(&repeated) == weights(&base), "{model}");
        assert_eq!(predictions(&repeated), predictions(&base), "{model}");
        let masked = place
            .run(&format!("masked-{model}"), &mask, &wired(&some))
            .unwrap();
        if !["popularity", "markov", "itemknn"].contains(&model) {
            // A mask must reach the model.
            assert!(weights(&masked) != weights(&base), "{model}");
            continue;
        }
        // Count models have no batches: weight 0 is the same as absence.
        let drop = format!("model: {model}\nact: {{ drop_below: 0 }}\n");
        let dropped = place
            .run(
                &format!("dropped-{model}"),
                &drop,
                &[("scores", some.clone())],
            )
            .unwrap();
        assert!(weights(&masked) == weights(&dropped), "{model}");
        assert_eq!(predictions(&masked), predictions(&dropped), "{model}");
    }
    // The base must be what is repeated.
    let other = place.path("base-markov").join("model");
    let config = "model: popularity\nregime: mask\nact: { drop_below: 0 }\n";
    let error = place
        .run("other", config, &[("scores", nothing), ("model", other)])
        .unwrap_err();
    assert!(error.to_string().contains("same `model:`"), "{error}");
}

/// The weights of a fitted model, as they lie on disk.
fn weights(out: &Path) -> Vec<u8> {
    std::fs::read(out.join("model/weights.safetensors")).unwrap()
}

/// The shop with other relevant items in validation: what early stopping looks at.
fn judged_otherwise() -> Shop {
    let mut other = shop();
    for request in &mut other.requests {
        if request.part == Part::ValuationFit {
            request.relevant = vec![request.sequence % 40];
        }
    }
    other
}

#[test]
fn a_mask_takes_the_steps_of_its_base_whatever_validation_says() {
    let (place, other) = (Place::new(shop()), Place::new(judged_otherwise()));
    let nothing = [&place, &other].map(|place| scores(&shop(), place, "nothing", |_| Some(0.0)));
    let mut n_stopped = 0;
    for entry in models::REGISTRY {
        let takes = |name: &str| entry.parameters.iter().any(|one| one.name == name);
        if !takes("validate_every") {
            continue;
        }
        // Steps so long that models are soon past their best.
        let steps = [
            ("patience", "1"),
            ("learning_rate", "0.05"),
            ("dimensions", "8"),
        ];
        let taken = steps.iter().filter(|(name, _)| takes(name));
        let model: Vec<String> = [
            ("name", entry.name),
            ("epochs", "9"),
            ("validate_every", "1"),
        ]
        .iter()
        .chain(taken)
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
        let model = model.join(", ");
        let plain = format!("model: {{ {model} }}\n");
        let name = format!("base-{}", entry.name);
        let base = place.run(&name, &plain, &[]).unwrap();
        let rows: Vec<TrainingEpoch> = tables::read_all(&base.join("training")).unwrap();
        n_stopped += usize::from(rows.len() < 9);
        // Training itself depends on validation exactly where it can stop early.
        let elsewhere = other.run(&name, &plain, &[]).unwrap();
        if !takes("patience") {
            assert!(weights(&elsewhere) == weights(&base), "{}", entry.name);
        }
        let mask = format!("{plain}regime: mask\nact: {{ drop_below: 0 }}\n");
        for (place, nothing) in [&place, &other].into_iter().zip(&nothing) {
            let wired = [("scores", nothing.clone()), ("model", base.join("model"))];
            let masked = place.run(&format!("mask-{}", entry.name), &mask, &wired);
            assert!(
                weights(&masked.unwrap()) == weights(&base),
                "{}",
                entry.name
            );
        }
    }
    assert!(
        n_stopped >= 3,
        "early stopping was not put to the test: {n_stopped}"
    );
}
