//! Tiers, groups and influences of the small probe, and of inputs that fit to it.

use std::path::{Path, PathBuf};

use stage::{Exit, Failure, Io, Label, Offers, Stage};
use tables::{
    CatalogueEntry, Event, Influence, Instant, ItemFeatures, Origin, Part, Request, Row, Sample,
    SampleTier, ScoreGroup, SequenceEvent, Tier, UserFeatures,
};

use super::{ALL, config, write_probe, write_projected};
use crate::Estimate;

/// (id, user, position, history, item) as in the probe: user 0 did 0, 1, 1; user 1 did 2, 1.
const SAMPLES: [(u64, u32, u32, u32, u32); 5] = [
    (5 << 16, 0, 0, 0, 0),
    (2 << 16, 0, 1, 1, 1),
    (9 << 16, 0, 2, 2, 1),
    (3 << 16, 1, 0, 0, 2),
    (4 << 16, 1, 1, 1, 1),
];

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let probe = place.make("probe");
        write_probe(&probe, ALL);
        write_projected(&probe, &[0]);
        let samples = SAMPLES.map(
            |(sample_id, sequence, position, history_end, item)| Sample {
                sample_id,
                sequence,
                position,
                history_end,
                item,
                event: if item == 1 {
                    Event::Purchase
                } else {
                    Event::Click
                },
                occurred_at: Some(Instant(86_400_000 * i64::from(position))),
                label: 1.0,
                weight: 1.0,
                origin: Origin::Observed,
            },
        );
        let events = samples.clone().map(|sample| SequenceEvent {
            sequence: sample.sequence,
            position: sample.position,
            item: sample.item,
            event: sample.event,
            occurred_at: sample.occurred_at,
            sample_id: sample.sample_id,
            part: Part::Training,
        });
        place.write("samples", samples);
        place.write("sequences", events);
        let request = Request {
            request: 0,
            part: Part::ValuationFit,
            sequence: 0,
            history_end: 3,
            requested_at: None,
            relevant: vec![1, 2],
        };
        place.write("requests", [request]);
        let entries = [0, 1, 2].map(|item| CatalogueEntry {
            item,
            item_id: format!("i{item}"),
            known_at: None,
            in_vocabulary: true,
        });
        place.write("catalogue", entries);
        let features = [0, 1, 2].map(|item| ItemFeatures {
            item,
            title: (item == 1).then(|| "red mug".to_owned()),
            category: (item > 0).then(|| "kitchen > mugs".to_owned()),
            brand: None,
            attributes: Vec::new(),
            price_e4: None,
            price_z: 0.0,
            popularity_z: 0.0,
        });
        place.write("item_features", features);
        let users = [0, 1].map(|sequence| UserFeatures {
            sequence,
            user_id: format!("u{sequence}"),
            n_events: 1,
            n_items: 1,
            n_sessions: 1,
            activity_z: 0.0,
            price_z: 0.0,
            in_training: true,
        });
        place.write("user_features", users);
        place
    }

    fn make(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn write<R: Row>(&self, role: &str, rows: impl IntoIterator<Item = R>) {
        tables::write_all(&self.make(role), rows).unwrap();
    }

    fn run(&self, out: &str, text: &str, roles: &[&str]) -> Result<PathBuf, Failure> {
        let out = self.folder.path().join(out);
        let mut io = Io::new(&out, self.folder.path());
        for role in roles.iter().chain(&["probe"]) {
            io = io.with_input(role, Label::default(), self.folder.path().join(role));
        }
        Estimate::run(&config(text), &io)?;
        Ok(out)
    }
}

const EVERYTHING: [&str; 6] = [
    "samples",
    "sequences",
    "requests",
    "catalogue",
    "item_features",
    "user_features",
];

fn read<R: Row>(out: &Path, role: &str) -> Vec<R> {
    tables::read_all(&out.join(role)).unwrap()
}

#[test]
fn nothing_is_made_that_was_not_asked_for() {
    let place = Place::new();
    let out = place
        .run("out", "method: projected_dot\n", &EVERYTHING)
        .unwrap();
    let made: Vec<_> = std::fs::read_dir(out).unwrap().collect();
    assert_eq!(made.len(), 1);
    let offers = Estimate::check(&config("method: projected_dot\n"), &Offers::new()).unwrap();
    assert_eq!(offers.keys().collect::<Vec<_>>(), ["scores"]);
    let all = "method: projected_dot\ntiers: { share: 0.2 }\ngroups: {}\ninfluences: {}\n";
    let offers = Estimate::check(&config(all), &Offers::new()).unwrap();
    let roles: Vec<_> = offers.keys().collect();
    assert_eq!(roles, ["groups", "influences", "scores", "tiers"]);
    assert_eq!(offers["groups"][0].facts["method"], "projected_dot");
}

#[test]
fn tiers_hold_every_sample() {
    let place = Place::new();
    let text = "method: projected_dot\ntiers: { share: 0.2 }\n";
    let out = place.run("out", text, &[]).unwrap();
    let rows: Vec<SampleTier> = read(&out, "tiers");
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.sample_id >> 16, row.score, row.tier))
        .collect();
    // The target is (2, 0) / 2. Two equal scores of three are no outer fifth.
    assert_eq!(
        found,
        [
            (2, Some(1.0), Tier::Middle),
            (3, None, Tier::Unscored),
            (4, Some(1.0), Tier::Middle),
            (5, None, Tier::Unscored),
            (9, Some(0.0), Tier::Low),
        ]
    );
}

#[test]
fn groups_are_those_that_the_inputs_know_of() {
    let place = Place::new();
    let text = "method: projected_dot\ngroups: { at_least: 1 }\n";
    let out = place.run("all", text, &EVERYTHING).unwrap();
    let rows: Vec<ScoreGroup> = read(&out, "groups");
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            let name = row.name.as_deref().unwrap_or("-");
            (
                row.unit.as_str(),
                name,
                row.n_samples,
                row.n_scored,
                row.sum,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("user", "u0", 3, 2, Some(1.0)),
            ("user", "u1", 2, 1, Some(1.0)),
            ("item", "i0", 1, 0, None),
            ("item", "red mug", 3, 3, Some(2.0)),
            ("item", "i2", 1, 0, None),
            ("category", "kitchen > mugs", 4, 3, Some(2.0)),
            ("event", "click", 2, 0, None),
            ("event", "purchase", 3, 3, Some(2.0)),
        ]
    );
    // Of the three scored samples of item 1, one is suspicious.
    assert_eq!(rows[3].low_frac, Some(1.0 / 3.0));
    let bare = place.run("bare", text, &[]).unwrap();
    let rows: Vec<ScoreGroup> = read(&bare, "groups");
    let units: Vec<_> = rows.iter().map(|row| row.unit.as_str()).collect();
    assert_eq!(units, ["user", "user", "item", "item", "item"]);
    assert!(rows.iter().all(|row| row.name.is_none()));
    let named = "method: projected_dot\ngroups: { units: [event] }\n";
    let failure = place.run("no", named, &[]).unwrap_err();
    assert_eq!(failure.exit, Exit::Configuration);
    assert!(failure.to_string().contains("`samples`"), "{failure}");
}

#[test]
fn influences_say_why() {
    let place = Place::new();
    let text = "method: projected_dot\ninfluences: { requests: 3, top: 5 }\n";
    let out = place.run("all", text, &EVERYTHING).unwrap();
    let rows: Vec<Influence> = read(&out, "influences");
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.rank, row.sample_id >> 16, row.score))
        .collect();
    // Products with (2, 0): sample 9 has 0, and none is harmful.
    assert_eq!(found, [(0, 2, 2.0), (1, 4, 2.0)]);
    assert!(rows.iter().all(|row| row.is_helpful && row.is_same_target));
    assert_eq!(rows[0].layer_scores, [2.0]);
    let common = |row: &Influence| {
        (
            row.is_same_user,
            row.is_in_last_basket,
            row.shared_items.clone(),
        )
    };
    assert_eq!(common(&rows[0]), (Some(true), Some(false), vec![0]));
    assert_eq!(common(&rows[1]), (Some(false), Some(false), vec![]));
    assert_eq!(
        rows[0].reason,
        "trains on what is asked for, red mug; same user; 1 item in both histories: i0; 100 % of it in `head`"
    );
    assert_eq!(
        rows[1].reason,
        "trains on what is asked for, red mug; 100 % of it in `head`"
    );
    let bare = place.run("bare", text, &[]).unwrap();
    let rows: Vec<Influence> = read(&bare, "influences");
    assert_eq!(common(&rows[0]), (None, None, vec![]));
    assert_eq!(
        rows[0].reason,
        "trains on what is asked for, item 1; 100 % of it in `head`"
    );
}

#[test]
fn a_method_of_the_mean_alone_lists_no_influences() {
    let place = Place::new();
    let text = "method: random\ninfluences: {}\n";
    let out = place.run("out", text, &EVERYTHING).unwrap();
    assert!(read::<Influence>(&out, "influences").is_empty());
}

#[test]
fn samples_of_another_split_are_refused() {
    let place = Place::new();
    let samples = tables::read_all::<Sample>(&place.make("samples")).unwrap();
    std::fs::remove_file(place.make("samples").join("samples.parquet")).unwrap();
    place.write("samples", samples.into_iter().take(4));
    let text = "method: projected_dot\ngroups: {}\n";
    let failure = place.run("out", text, &EVERYTHING).unwrap_err();
    assert_eq!(failure.exit, Exit::Data);
}

#[test]
fn wrong_results_are_refused_before_they_run() {
    for (text, word) in [
        ("method: random\ntiers: {}\n", "either `share`"),
        ("method: random\ntiers: { share: 0.7 }\n", "0.7"),
        (
            "method: random\ntiers: { share: 0.2, low_below: 0 }\n",
            "either",
        ),
        ("method: random\ntiers: { low_below: 0 }\n", "both"),
        (
            "method: loss\ntiers: { low_below: 0, high_above: 1 }\n",
            "needs helpfulness",
        ),
        (
            "method: leave_one_out\ntiers: { low_below: 2, high_above: 1 }\n",
            "in this order",
        ),
        ("method: random\ngroups: { at_least: 0 }\n", "at_least"),
        ("method: random\ngroups: { threshold: 0 }\n", "threshold"),
        ("method: random\ngroups: { units: [] }\n", "names no unit"),
        ("method: random\ninfluences: { top: 0 }\n", "influences.top"),
    ] {
        let failure = Estimate::check(&config(text), &Offers::new()).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration, "{text}");
        assert!(failure.to_string().contains(word), "{text}: {failure}");
    }
    let unknown = "method: random\ngroups: { units: [users] }\n";
    let failure = stage::yaml::parse::<crate::Config>(unknown, "t.yaml").unwrap_err();
    assert!(failure.to_string().contains("users"), "{failure}");
}
