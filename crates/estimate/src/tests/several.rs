//! Several probes as an ensemble, and settings that are chosen.

use std::path::{Path, PathBuf};

use stage::{Exit, Failure, Io, Label, Stage};
use tables::{MethodCard, ProbeSample, Score, Sensitivity};

use super::{ALL, Has, config, offers, write_probe, write_projected_with};
use crate::Estimate;

/// A folder with probes of one model under some seeds, which see other losses.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A probe of which every loss is a multiple of the target item, where there is one.
    fn probe(&self, name: &str, model: &str, factor: f64) -> PathBuf {
        let (plain, path) = (self.path(&format!("{name}-plain")), self.path(name));
        for path in [&plain, &path] {
            std::fs::create_dir(path).unwrap();
        }
        write_probe(
            &path,
            Has {
                losses: false,
                ..ALL
            },
        );
        write_probe(&plain, ALL);
        let mut samples: Vec<ProbeSample> = tables::read_all(&plain).unwrap();
        for sample in &mut samples {
            sample.loss = sample.loss.map(|loss| loss * factor);
        }
        std::fs::remove_file(path.join("probe_samples.parquet")).unwrap();
        tables::write_all(&path, samples).unwrap();
        let card = format!(r#"{{ "model": "{model}", "parameters": {{}}, "n_samples": 5 }}"#);
        std::fs::write(path.join("probe.json"), card).unwrap();
        path
    }

    fn io(&self, out: &str, probes: &[(&str, &Path)]) -> Io {
        let mut io = Io::new(self.path(out), self.folder.path());
        for (label, path) in probes {
            let role = if label.is_empty() { "probe" } else { "probes" };
            io = io.with_input(role, Label::parse(label).unwrap(), *path);
        }
        io
    }

    fn run(&self, out: &str, text: &str, probes: &[(&str, &Path)]) -> Result<PathBuf, Failure> {
        Estimate::run(&config(text), &self.io(out, probes))?;
        Ok(self.path(out))
    }
}

fn scores(out: &Path) -> Vec<Score> {
    tables::read_all(&out.join("scores")).unwrap()
}

fn card(out: &Path) -> MethodCard {
    tables::read_all(&out.join("scores")).unwrap().remove(0)
}

#[test]
fn an_ensemble_is_the_mean_over_its_members_in_any_order() {
    let place = Place::new();
    let (a, b) = (place.probe("a", "bpr", 1.0), place.probe("b", "bpr", 4.0));
    let (one, other) = ("node=probe,seed=1", "node=probe,seed=2");
    let found = place
        .run("both", "method: loss\n", &[(one, &a), (other, &b)])
        .unwrap();
    // Losses of x and 4 x: mean 2.5 x, standard deviation 3 x over the root of 2, of two.
    let items = [1.0, 2.0, 1.0, 0.0, 1.0];
    for (row, item) in scores(&found).iter().zip(items) {
        assert!((row.score.unwrap() - 2.5 * item).abs() < 1e-15);
        assert!((row.std_error.unwrap() - 1.5 * item).abs() < 1e-15);
        assert_eq!(row.n_updates, 2);
    }
    let card = card(&found);
    assert_eq!(card.n_members, 2);
    // Sums of five squares.
    assert!((card.stability.unwrap() - 1.0).abs() < 1e-14);
    assert!(
        card.estimand
            .ends_with("over 2 trainings, which differ in their seed.")
    );
    let again = place
        .run("again", "method: loss\n", &[(other, &b), (one, &a)])
        .unwrap();
    assert_eq!(scores(&found), scores(&again));
}

#[test]
fn one_member_gives_the_bytes_of_one_probe() {
    let place = Place::new();
    let probe = place.probe("a", "bpr", 1.0);
    let alone = place
        .run("alone", "method: loss\n", &[("", &probe)])
        .unwrap();
    let member = place
        .run("member", "method: loss\n", &[("seed=1", &probe)])
        .unwrap();
    for file in ["scores.parquet", "methods.parquet"] {
        let bytes = |out: &Path| std::fs::read(out.join("scores").join(file)).unwrap();
        assert!(bytes(&alone) == bytes(&member), "{file}");
    }
    assert_eq!(card(&alone).n_members, 1);
    assert!(scores(&alone).iter().all(|row| row.std_error.is_none()));
}

#[test]
fn what_is_no_ensemble_is_refused() {
    let place = Place::new();
    let a = place.probe("a", "bpr", 1.0);
    let other = place.probe("other", "markov", 1.0);
    let refused = |text: &str, probes: &[(&str, &Path)], exit, word: &str| {
        let failure = place.run("out", text, probes).unwrap_err();
        assert_eq!(failure.exit, exit, "{failure}");
        assert!(failure.to_string().contains(word), "{failure}");
    };
    let wrong = Exit::Configuration;
    let pair: [(&str, &Path); 2] = [("seed=1", &a), ("seed=2", &other)];
    refused("method: loss\n", &pair, wrong, "`bpr` and `markov`");
    refused("method: loss\n", &[], wrong, "`probe` is missing");
    let both: [(&str, &Path); 2] = [("", &a), ("seed=2", &a)];
    refused("method: loss\n", &both, wrong, "both wired");
    let same: [(&str, &Path); 2] = [("seed=1", &a), ("seed=2", &a)];
    refused("method: loss\ninfluences: {}\n", &same, wrong, "one model");
    // A part of a probe is no member, nor a probe.
    let part = place.probe("part", "bpr", 1.0);
    std::fs::write(part.join("shard.json"), "{}").unwrap();
    refused("method: loss\n", &[("", &part)], wrong, "mode `merge`");
    let pair: [(&str, &Path); 2] = [("shard=1/2", &part), ("shard=2/2", &part)];
    refused("method: loss\n", &pair, wrong, "mode `merge`");
    // Of another split.
    let strange = place.probe("strange", "bpr", 1.0);
    let mut samples: Vec<ProbeSample> = tables::read_all(&strange).unwrap();
    samples[2].item = 0;
    std::fs::remove_file(strange.join("probe_samples.parquet")).unwrap();
    tables::write_all(&strange, samples).unwrap();
    let pair: [(&str, &Path); 2] = [("seed=1", &a), ("seed=2", &strange)];
    refused(
        "method: loss\n",
        &pair,
        Exit::Data,
        "[seed=2] looks at other samples",
    );
}

#[test]
fn offers_are_checked_for_every_member() {
    let with = |models: [&str; 2], words: [&[&str]; 2]| {
        let mut wired = offers(models[0], words[0]);
        let second = offers(models[1], words[1]).remove("probe").unwrap();
        let mut members = wired.remove("probe").unwrap();
        members.extend(second);
        wired.insert("probes".to_owned(), members);
        Estimate::check(&config("method: loss\n"), &wired)
    };
    let losses: &[&str] = &["losses"];
    assert!(with(["bpr", "bpr"], [losses, losses]).is_ok());
    let failure = with(["bpr", "bpr"], [losses, &[]]).unwrap_err();
    assert!(failure.not_applicable);
    let mut part = offers("bpr", losses);
    let fact = ("shard".to_owned(), "1/2".to_owned());
    part.get_mut("probe").unwrap()[0].facts.extend([fact]);
    let failure = Estimate::check(&config("method: loss\n"), &part).unwrap_err();
    assert!(failure.message.contains("`1/2`"), "{failure}");
    let failure = with(["bpr", "ials"], [losses, losses]).unwrap_err();
    assert!(failure.message.contains("different models"), "{failure}");
}

/// Runs the stage on projected gradients, with those of request 1 held out.
fn tuned(place: &Place, out: &str, text: &str) -> Result<PathBuf, Failure> {
    let probe = place.path("probe");
    if !probe.is_dir() {
        std::fs::create_dir(&probe).unwrap();
        write_probe(&probe, ALL);
        write_projected_with(&probe, &[0], Some(&[1]));
    }
    place.run(out, text, &[("", &probe)])
}

#[test]
fn the_setting_that_holds_best_is_kept_and_all_are_told() {
    let place = Place::new();
    let grid = "method: influence\ntune: { grid: { damping: [0.01, 0.75, 30] } }\n";
    let out = tuned(&place, "tuned", grid).unwrap();
    let rows: Vec<Sensitivity> = tables::read_all(&out.join("sensitivity")).unwrap();
    assert_eq!(rows.len(), 3);
    let criteria: Vec<f64> = rows.iter().map(|row| row.criterion.unwrap()).collect();
    let highest = criteria.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let chosen = rows.iter().position(|row| row.is_chosen).unwrap();
    assert_eq!(rows.iter().filter(|row| row.is_chosen).count(), 1);
    assert!(criteria[chosen] >= highest);
    assert!((rows[chosen].spearman.unwrap() - 1.0).abs() < 1e-12);
    assert!(criteria[0] < criteria[2] || criteria[2] < criteria[0]);
    assert!(rows.iter().all(|row| row.n_requests == 1));
    // With a damping of 0.75 the direction is (5, -1) / 8, as in the test of influences; products with
    // samples are 5, -1 and 4, with the gradient (0, 3) of the request held out -3.
    let wanted = -3.0 / f64::sqrt((25.0 + 1.0 + 16.0) / 3.0);
    assert!((criteria[1] - wanted).abs() < 1e-14, "{criteria:?}");
    // What was chosen is what is scored.
    let parameters: serde_json::Value = serde_json::from_str(&rows[chosen].parameters).unwrap();
    let written = format!(
        "method: {{ name: influence, damping: {} }}\n",
        parameters["damping"]
    );
    let direct = tuned(&place, "direct", &written).unwrap();
    assert_eq!(scores(&out), scores(&direct));
    assert_eq!(card(&out), card(&direct));
}

#[test]
fn neighbours_are_chosen_by_their_utility() {
    let place = Place::new();
    let out = tuned(
        &place,
        "tuned",
        "method: knn_shapley\ntune: { grid: { k: [1, 2, 3] } }\n",
    )
    .unwrap();
    let rows: Vec<Sensitivity> = tables::read_all(&out.join("sensitivity")).unwrap();
    // The request that is held out asks for item 0, which no sample with a history has.
    assert!(rows.iter().all(|row| row.criterion == Some(0.0)));
    assert!(rows[0].is_chosen, "the first of equals");
}

#[test]
fn what_cannot_be_tuned_says_why() {
    let place = Place::new();
    let tune = "tune: { grid: { damping: [0.1] } }\n";
    let mut wired = offers("sasrec", &["projected_gradients", "losses"]);
    let refused =
        |text: &str, wired: &stage::Offers| Estimate::check(&config(text), wired).unwrap_err();
    let failure = refused(&format!("method: leverage\n{tune}"), &wired);
    assert!(
        failure.not_applicable && failure.hints[0].contains("logra"),
        "{failure}"
    );
    let failure = refused(&format!("method: logra\n{tune}"), &wired);
    assert!(
        failure.hints[0].contains("held_out: valuation.tune"),
        "{failure}"
    );
    let fact = ("held_out_part".to_owned(), "valuation.tune".to_owned());
    wired.get_mut("probe").unwrap()[0].facts.extend([fact]);
    let given = Estimate::check(&config(&format!("method: logra\n{tune}")), &wired).unwrap();
    assert!(given.contains_key("sensitivity"));
    for (text, word) in [
        (
            "method: logra\ntune: { grid: {} }\n",
            "nothing would be tried",
        ),
        (
            "method: logra\ntune: { grid: { damping: [] } }\n",
            "is empty",
        ),
        (
            "method: logra\ntune: { grid: { dumping: [1] } }\n",
            "did you mean `damping`",
        ),
        ("method: logra\ntune: { grid: { damping: [0] } }\n", "> 0"),
        (
            "method: logra\ntune: { grid: { damping: [1] }, on: valuation.fit }\n",
            "cannot be `valuation.fit`",
        ),
        (
            "method: logra\ntune: { grid: { damping: [1] }, on: test }\n",
            "cannot be `test`",
        ),
    ] {
        let failure = refused(text, &wired);
        assert!(failure.to_string().contains(word), "{text}: {failure}");
    }
    // By hand: a probe without them.
    let probe = place.path("bare");
    std::fs::create_dir(&probe).unwrap();
    write_probe(&probe, ALL);
    write_projected_with(&probe, &[0], None);
    let failure = place
        .run("out", &format!("method: logra\n{tune}"), &[("", &probe)])
        .unwrap_err();
    assert!(
        failure.to_string().contains("held_out: valuation.tune"),
        "{failure}"
    );
}
