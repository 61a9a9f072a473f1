//! The whole stage on a small shop: fit, act, probe, and what it refuses.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its data fails"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::Tensors;
use stage::{Exit, Failure, Io, Label, Seed, Stage};
use tables::{
    CatalogueEntry, Event, Instant, ItemCount, ItemFeatures, NOT_RANKED, Origin, Part, Prediction,
    ProbeRequest, ProbeSample, Removal, Request, Response, Sample, Score, SequenceEvent,
    SubsetMember, Suspect, TrainingEpoch, Transition, Trial,
};
use train::Train;

const N_USERS: u32 = 60;
const N_VOCABULARY: u32 = 40;
/// The last two are first seen after the cut.
const N_ITEMS: u32 = 42;
const CUT: i64 = 1000;

/// The tables that `split` would write.
struct Shop {
    samples: Vec<Sample>,
    sequences: Vec<SequenceEvent>,
    requests: Vec<Request>,
    catalogue: Vec<CatalogueEntry>,
    item_features: Vec<ItemFeatures>,
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap()
}

/// Users with baskets of items at equal instants before the cut, and purchases after it.
fn shop() -> Shop {
    let mut draws = Seed::root(7).child("shop").sequence();
    let mut shop = Shop {
        samples: Vec::new(),
        sequences: Vec::new(),
        requests: Vec::new(),
        catalogue: Vec::new(),
        item_features: Vec::new(),
    };
    for sequence in 0..N_USERS {
        let mut at = i64::from(sequence);
        let (mut position, mut history_end) = (0, 0);
        // The last user has no history.
        let n_baskets = if sequence + 1 == N_USERS {
            0
        } else {
            1 + draws.below(6)
        };
        for _ in 0..n_baskets {
            at += 1 + i64::try_from(draws.below(100)).unwrap();
            for _ in 0..=draws.below(3) {
                let low = draws
                    .below(u64::from(N_VOCABULARY))
                    .min(draws.below(u64::from(N_VOCABULARY)));
                let item = number(low);
                let sample_id = u64::from(sequence) * 100 + u64::from(position);
                shop.sequences
                    .push(event(sequence, position, item, at, Part::Training));
                shop.samples.push(Sample {
                    sample_id,
                    sequence,
                    position,
                    history_end,
                    item,
                    event: Event::Purchase,
                    occurred_at: Some(Instant(at)),
                    label: 1.0,
                    weight: 1.0,
                    origin: Origin::Observed,
                });
                position += 1;
            }
            history_end = position;
        }
        let n_before = position;
        let mut relevant: Vec<u32> = (0..=draws.below(4))
            .map(|_| number(draws.below(u64::from(N_ITEMS))))
            .collect();
        relevant.sort_unstable();
        relevant.dedup();
        for item in &relevant {
            shop.sequences
                .push(event(sequence, position, *item, CUT + 5, Part::Test));
            position += 1;
        }
        shop.requests.push(Request {
            request: 0,
            part: [Part::ValuationFit, Part::ValuationTune, Part::Test][sequence as usize % 3],
            sequence,
            history_end: n_before,
            requested_at: Some(Instant(CUT)),
            relevant,
        });
    }
    shop.requests
        .sort_by_key(|request| (request.part, request.sequence));
    for (number, request) in (0..).zip(&mut shop.requests) {
        request.request = number;
    }
    for item in 0..N_ITEMS {
        let in_vocabulary = item < N_VOCABULARY;
        shop.catalogue.push(CatalogueEntry {
            item,
            item_id: format!("i{item}"),
            known_at: Some(Instant(if in_vocabulary { 0 } else { CUT + 5 })),
            in_vocabulary,
        });
        shop.item_features.push(ItemFeatures {
            item,
            title: Some(format!(
                "{} 杯子 mug {item}",
                ["red", "blue"][item as usize % 2]
            )),
            category: Some("kitchen > mugs".to_owned()),
            brand: None,
            attributes: Vec::new(),
            price_e4: None,
            price_z: 0.0,
            popularity_z: 0.0,
        });
    }
    shop
}

fn event(sequence: u32, position: u32, item: u32, at: i64, part: Part) -> SequenceEvent {
    SequenceEvent {
        sequence,
        position,
        item,
        event: Event::Purchase,
        occurred_at: Some(Instant(at)),
        sample_id: u64::from(sequence) * 100 + u64::from(position),
        part,
    }
}

/// A folder with the tables of a shop and a place for outputs.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(shop: Shop) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        tables::write_all(&place.make("samples"), shop.samples).unwrap();
        tables::write_all(&place.make("sequences"), shop.sequences).unwrap();
        tables::write_all(&place.make("requests"), shop.requests).unwrap();
        tables::write_all(&place.make("catalogue"), shop.catalogue).unwrap();
        tables::write_all(&place.make("item_features"), shop.item_features).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    /// Runs the stage with further inputs and returns the directory of its outputs.
    fn run(
        &self,
        out: &str,
        config: &str,
        further: &[(&str, PathBuf)],
    ) -> Result<PathBuf, Failure> {
        let out = self.path(out);
        let config = stage::yaml::parse(config, "test.yaml")?;
        let mut io = Io::new(&out, "data");
        for role in [
            "samples",
            "sequences",
            "requests",
            "catalogue",
            "item_features",
        ] {
            io = io.with_input(role, Label::default(), self.path(role));
        }
        for (role, path) in further {
            io = io.with_input(role, Label::default(), path);
        }
        Train::run(&config, &io)?;
        Ok(out)
    }
}

/// Bytes of all files below a directory, by name.
fn bytes(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(bytes(&path));
        } else {
            let name = path
                .strip_prefix(directory.parent().unwrap())
                .unwrap()
                .to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let models: Vec<&str> = models::REGISTRY.iter().map(|entry| entry.name).collect();
    let of_threads = [1, 2, 5].map(|n_threads| {
        let place = Place::new(shop());
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .unwrap();
        pool.install(|| {
            for model in &models {
                let fitted = place.run(model, &format!("model: {model}\n"), &[]).unwrap();
                let fitted = [("model", fitted.join("model"))];
                place
                    .run(&format!("{model}-probe"), "mode: probe\n", &fitted)
                    .unwrap();
            }
        });
        let files = models.iter().map(|model| {
            let mut all = bytes(&place.path(model));
            all.extend(bytes(&place.path(&format!("{model}-probe"))));
            (*model, all)
        });
        files.collect::<BTreeMap<_, _>>()
    });
    assert_eq!(of_threads[0], of_threads[1]);
    assert_eq!(of_threads[0], of_threads[2]);
    // Three files of a fit, four tables and two other files of the probe of a chain.
    assert_eq!(of_threads[0]["markov"].len(), 4 + 6);
    assert_eq!(of_threads[0]["itemknn"].len(), 4 + 4);
}

/// The place of an item by definition, from the scores of a chain that are counted anew.
fn chain_scores(shop: &Shop, history: &[u32]) -> Vec<f64> {
    let n = f64::from(u32::try_from(shop.samples.len()).unwrap());
    let last_of = |sample: &Sample| {
        let at = shop.sequences.iter().find(|event| {
            event.sequence == sample.sequence && event.position + 1 == sample.history_end
        });
        at.map(|event| event.item)
    };
    let mut scores = vec![1.0 / (n + f64::from(N_VOCABULARY)); N_ITEMS as usize];
    for sample in &shop.samples {
        scores[sample.item as usize] += 1.0 / (n + f64::from(N_VOCABULARY));
    }
    for sample in &shop.samples {
        if history.last().copied().is_some() && last_of(sample) == history.last().copied() {
            scores[sample.item as usize] += 1.0;
        }
    }
    scores
}

fn history_of(shop: &Shop, request: &Request) -> Vec<u32> {
    shop.sequences
        .iter()
        .filter(|event| event.sequence == request.sequence && event.position < request.history_end)
        .map(|event| event.item)
        .collect()
}

#[test]
fn ranks_of_a_chain_are_those_counted_by_hand() {
    let place = Place::new(shop());
    let shop = shop();
    for (seen, config) in [
        ("keep", "model: markov\ntop: 5\n"),
        ("exclude", "model: markov\ntop: 5\nseen: exclude\n"),
    ] {
        let out = place.run(seen, config, &[]).unwrap();
        let rows: Vec<Prediction> = tables::read_all(&out.join("predictions")).unwrap();
        assert_eq!(rows.len(), shop.requests.len());
        let (mut n_cold, mut n_repeat) = (0, 0);
        for (row, request) in rows.iter().zip(&shop.requests) {
            let history = history_of(&shop, request);
            let scores = chain_scores(&shop, &history);
            let is_kept = |item: u32| seen == "keep" || !history.contains(&item);
            let candidates: Vec<u32> = (0..N_VOCABULARY).filter(|item| is_kept(*item)).collect();
            assert_eq!(row.n_candidates as usize, candidates.len());
            assert_eq!(row.history_length as usize, history.len());
            let relevant: Vec<u32> = request
                .relevant
                .iter()
                .copied()
                .filter(|item| is_kept(*item))
                .collect();
            assert_eq!(row.relevant, relevant);
            for (index, &item) in relevant.iter().enumerate() {
                let score = scores[item as usize];
                let count = |among: &[u32], test: &dyn Fn(f64) -> bool| {
                    let n = among
                        .iter()
                        .filter(|other| **other != item && test(scores[**other as usize]))
                        .count();
                    u32::try_from(n).unwrap()
                };
                // Two sums of the same terms in another order differ by less than this; two
                // different scores by more.
                let better = |other: f64| other > score + 1e-9;
                let tied = |other: f64| (other - score).abs() <= 1e-9;
                let new: Vec<u32> = candidates
                    .iter()
                    .copied()
                    .filter(|other| !history.contains(other))
                    .collect();
                let is_repeat = history.contains(&item);
                assert_eq!(row.is_repeat[index], is_repeat);
                n_repeat += usize::from(is_repeat);
                if item >= N_VOCABULARY {
                    n_cold += 1;
                    assert_eq!((row.better[index], row.tied[index]), (NOT_RANKED, 0));
                    assert_eq!(
                        (row.better_new[index], row.tied_new[index]),
                        (NOT_RANKED, 0)
                    );
                    continue;
                }
                assert_eq!(row.better[index], count(&candidates, &better));
                assert_eq!(row.tied[index], count(&candidates, &tied));
                let of_new = if is_repeat {
                    (NOT_RANKED, 0)
                } else {
                    (count(&new, &better), count(&new, &tied))
                };
                assert_eq!((row.better_new[index], row.tied_new[index]), of_new);
            }
            assert_eq!(row.top_items.len(), 5);
            assert!(row.top_items.iter().all(|item| candidates.contains(item)));
        }
        assert!(n_cold > 0);
        assert_eq!(n_repeat > 0, seen == "keep");
    }
}

#[test]
fn training_says_what_was_fitted() {
    let place = Place::new(shop());
    for model in ["popularity", "markov", "itemknn"] {
        let out = place.run(model, &format!("model: {model}\n"), &[]).unwrap();
        let rows: Vec<TrainingEpoch> = tables::read_all(&out.join("training")).unwrap();
        let [epoch] = &rows[..] else {
            panic!("{} epochs", rows.len());
        };
        assert_eq!(epoch.n_samples, shop().samples.len() as u64);
        assert_eq!(epoch.loss.is_some(), model != "itemknn");
        assert!((0.0..1.0).contains(&epoch.validation.unwrap()));
        assert_eq!(epoch.learning_rate, None);
    }
    // Mean of -ln p over the samples themselves.
    let rows: Vec<TrainingEpoch> = tables::read_all(&place.path("popularity/training")).unwrap();
    let shop = shop();
    let scores = chain_scores(&shop, &[]);
    let sum: f64 = shop
        .samples
        .iter()
        .map(|sample| -libm::log(scores[sample.item as usize]))
        .sum();
    assert!((rows[0].loss.unwrap() - sum / shop.samples.len() as f64).abs() < 1e-12);
}

fn scores(
    shop: &Shop,
    place: &Place,
    name: &str,
    score: impl Fn(&Sample) -> Option<f64>,
) -> PathBuf {
    let directory = place.make(name);
    let mut rows: Vec<Score> = shop
        .samples
        .iter()
        .map(|sample| Score {
            method: "oracle".to_owned(),
            sample_id: sample.sample_id,
            score: score(sample),
            std_error: None,
            n_updates: 1,
            suspect: Suspect::Low,
        })
        .collect();
    rows.sort_by_key(|row| row.sample_id);
    tables::write_all(&directory, rows).unwrap();
    directory
}

#[test]
fn epochs_of_a_trained_model_are_recorded_and_the_best_is_returned() {
    let place = Place::new(shop());
    let config = "model: { name: bpr, dimensions: 4, epochs: 6, validate_every: 2 }\nseed: 4\n";
    let out = place.run("bpr", config, &[]).unwrap();
    let rows: Vec<TrainingEpoch> = tables::read_all(&out.join("training")).unwrap();
    let epochs: Vec<u32> = rows.iter().map(|row| row.epoch).collect();
    assert_eq!(epochs, [0, 1, 2, 3, 4, 5]);
    assert!(
        rows.iter()
            .all(|row| row.loss.is_some() && row.learning_rate == Some(0.05))
    );
    let validated: Vec<bool> = rows.iter().map(|row| row.validation.is_some()).collect();
    assert_eq!(validated, [false, true, false, true, false, true]);
    // Chance comes from the seed of the configuration.
    let other = place.run("other", &config.replace("seed: 4", "seed: 5"), &[]);
    let other: Vec<TrainingEpoch> = tables::read_all(&other.unwrap().join("training")).unwrap();
    assert_ne!(rows, other);
}

#[test]
fn models_that_cannot_be_fitted_say_what_to_write() {
    let place = Place::new(shop());
    let large = place.run("large", "model: { name: ease, max_items: 20 }\n", &[]);
    let failure = large.unwrap_err();
    assert_eq!(failure.exit, Exit::Configuration);
    assert!(failure.hints[0].contains("`max_items: 40`"), "{failure:?}");
    let wild = "model: { name: bpr, learning_rate: 1e30 }\n";
    let failure = place.run("wild", wild, &[]).unwrap_err();
    assert_eq!(failure.exit, Exit::Computation);
    assert!(failure.to_string().contains("epoch 0"), "{failure}");
}

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

#[test]
fn tuning_keeps_what_validates_best_and_never_looks_at_the_test() {
    let place = Place::new(shop());
    let mut without_test = shop();
    for request in &mut without_test.requests {
        if request.part == Part::Test {
            request.relevant = vec![0];
        }
    }
    let blind = Place::new(without_test);
    for how in ["", ", rungs: 2, reduction: 2", ", rungs: 2, folds: 3"] {
        let tune = format!("tune: {{ grid: {{ neighbours: [1, 2, 5, 20] }}{how} }}\n");
        let config = format!("model: itemknn\nseed: 4\n{tune}");
        let name = format!("tune-{}", how.len());
        let out = place.run(&name, &config, &[]).unwrap();
        let trials: Vec<Trial> = tables::read_all(&out.join("trials")).unwrap();
        let last = trials.iter().map(|trial| trial.rung).max().unwrap();
        let judged = || trials.iter().filter(|trial| trial.rung == last);
        let best = judged()
            .map(|trial| trial.validation.unwrap())
            .fold(0.0, f64::max);
        let chosen = judged().find(|trial| trial.is_chosen).unwrap();
        assert!(
            (chosen.validation.unwrap() - best).abs() < 1e-15,
            "{trials:?}"
        );
        // The first rung tries all, the last one sees all.
        assert_eq!(trials.iter().filter(|trial| trial.rung == 0).count(), 4);
        assert!(judged().all(|trial| (trial.share - 1.0).abs() < 1e-12));
        // What was chosen is what is fitted.
        let parameters: serde_json::Value = serde_json::from_str(&chosen.parameters).unwrap();
        let written = format!(
            "model: {{ name: itemknn, neighbours: {} }}\nseed: 4\n",
            parameters["neighbours"]
        );
        let direct = place.run(&format!("direct-{name}"), &written, &[]).unwrap();
        assert_eq!(bytes(&out.join("model")), bytes(&direct.join("model")));
        assert_eq!(
            bytes(&out.join("predictions")),
            bytes(&direct.join("predictions"))
        );
        let other = blind.run(&name, &config, &[]).unwrap();
        assert_eq!(bytes(&out.join("trials")), bytes(&other.join("trials")));
    }
}

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

#[test]
fn serving_is_timed_on_test_requests_alone() {
    let place = Place::new(shop());
    let model = place
        .run("fit", "model: itemknn\n", &[])
        .unwrap()
        .join("model");
    let config = "mode: serve\nserve: { requests: 40, warm_up: 3 }\n";
    let out = place
        .run("serve", config, &[("model", model.clone())])
        .unwrap();
    let rows: Vec<tables::Latency> = tables::read_all(&out.join("latency")).unwrap();
    let n_test = shop()
        .requests
        .iter()
        .filter(|request| request.part == Part::Test)
        .count();
    assert_eq!(rows[0].what, "single_request");
    assert_eq!((rows[0].n, rows[0].threads), (40, 1));
    assert_eq!(rows[1].what, "full_ranking");
    assert_eq!(rows[1].n, n_test as u64);
    for row in rows {
        assert!(0.0 < row.p50_ms && row.p50_ms <= row.p99_ms, "{row:?}");
        assert!(row.per_second > 0.0, "{row:?}");
    }
    let mut none = shop();
    none.requests.retain(|request| request.part != Part::Test);
    let none = Place::new(none);
    let error = none.run("serve", config, &[("model", model)]).unwrap_err();
    assert_eq!(error.exit, Exit::Data);
}

#[test]
fn a_probe_shows_what_the_model_counted() {
    let place = Place::new(shop());
    let shop = shop();
    let fitted = place.run("fit", "model: markov\n", &[]).unwrap();
    let out = place
        .run("probe", "mode: probe\n", &[("model", fitted.join("model"))])
        .unwrap()
        .join("probe");

    let samples: Vec<ProbeSample> = tables::read_all(&out).unwrap();
    let counts: Vec<ItemCount> = tables::read_all(&out).unwrap();
    let transitions: Vec<Transition> = tables::read_all(&out).unwrap();
    assert_eq!(samples.len(), shop.samples.len());
    assert_eq!(counts.len(), N_VOCABULARY as usize);
    let n_with_history = samples
        .iter()
        .filter(|sample| sample.history_length > 0)
        .count();
    let total: f64 = transitions.iter().map(|transition| transition.weight).sum();
    assert!((total - n_with_history as f64).abs() < 1e-9);
    for transition in &transitions {
        let n = samples
            .iter()
            .filter(|sample| {
                sample.last_item == Some(transition.from_item) && sample.item == transition.to_item
            })
            .count();
        assert!((transition.weight - n as f64).abs() < 1e-9);
    }
    for count in &counts {
        let n = shop
            .samples
            .iter()
            .filter(|sample| sample.item == count.item)
            .count();
        assert!((count.weight - n as f64).abs() < 1e-9);
    }

    let representations = Tensors::load(&out.join("representations.safetensors")).unwrap();
    let histories = representations.csr("histories").unwrap();
    let items = representations.csr("items").unwrap();
    assert_eq!(items.n_rows(), N_ITEMS as usize);
    assert_eq!(items.n_columns, histories.n_columns);
    assert!(histories.row(0).0.is_empty());
    for (row, sample) in samples.iter().zip(&shop.samples) {
        assert_eq!((row.sample_id, row.item), (sample.sample_id, sample.item));
        assert_eq!(row.history_row == 0, sample.history_end == 0);
        assert_eq!(row.history_length == 0, row.last_item.is_none());
        // Loss of the chain by its formula.
        let history: Vec<u32> = row.last_item.into_iter().collect();
        let scores = chain_scores(&shop, &history);
        let sum: f64 = scores[..N_VOCABULARY as usize].iter().sum();
        let expected = -libm::log(scores[row.item as usize] / sum);
        assert!((row.loss.unwrap() - expected).abs() < 1e-9);
        if row.history_row > 0 {
            // The last item of a history is one of its columns.
            let (columns, _) = histories.row(row.history_row as usize);
            assert!(columns.contains(&row.last_item.unwrap()));
        }
    }
    // Samples of one basket share a history, others of a sequence do not.
    for pair in samples.windows(2) {
        let same = pair[0].sequence == pair[1].sequence
            && pair[0].history_length == pair[1].history_length;
        let both_empty = pair[0].history_length == 0 && pair[1].history_length == 0;
        assert_eq!(
            pair[0].history_row == pair[1].history_row,
            same || both_empty
        );
    }

    let requests: Vec<ProbeRequest> = tables::read_all(&out).unwrap();
    for (row, request) in requests.iter().zip(&shop.requests) {
        assert_eq!(row.relevant, request.relevant);
        assert_eq!(row.losses.len(), row.relevant.len());
        assert_eq!(row.history_row == 0, request.history_end == 0);
        assert!((row.history_row as usize) < histories.n_rows());
        let history: Vec<u32> = row.last_item.into_iter().collect();
        let scores = chain_scores(&shop, &history);
        let sum: f64 = scores[..N_VOCABULARY as usize].iter().sum();
        for (item, loss) in row.relevant.iter().zip(&row.losses) {
            assert!((loss + libm::log(scores[*item as usize] / sum)).abs() < 1e-9);
        }
    }

    let card: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("probe.json")).unwrap()).unwrap();
    assert_eq!(card["model"], "markov");
    assert_eq!(card["n_vocabulary"], N_VOCABULARY);
    assert_eq!(card["n_catalogue"], N_ITEMS);
    assert_eq!(card["n_samples"], samples.len());
    assert_eq!(card["n_histories"], histories.n_rows());

    // A model without counts and losses.
    let fitted = place.run("fit-knn", "model: itemknn\n", &[]).unwrap();
    let out = place
        .run(
            "probe-knn",
            "mode: probe\n",
            &[("model", fitted.join("model"))],
        )
        .unwrap()
        .join("probe");
    assert!(!out.join("item_counts.parquet").exists());
    let samples: Vec<ProbeSample> = tables::read_all(&out).unwrap();
    assert!(samples.iter().all(|sample| sample.loss.is_none()));
    let requests: Vec<ProbeRequest> = tables::read_all(&out).unwrap();
    assert!(requests.iter().all(|request| request.losses.is_empty()));
}

#[test]
fn tables_that_do_not_belong_together_are_refused() {
    type Damage = fn(&mut Shop);
    let damages: [(Damage, &str); 9] = [
        (
            |shop| shop.catalogue[3].item = 9,
            "row 3 of `catalogue` holds item 9",
        ),
        (
            |shop| shop.catalogue[3].in_vocabulary = false,
            "but not item 3",
        ),
        (|shop| shop.sequences[0].item = 42, "item 42 of `sequences`"),
        (
            |shop| {
                shop.sequences.remove(0);
            },
            "wrong `sequences`",
        ),
        (|shop| shop.samples[5].item = 41, "speaks of item 41"),
        (
            |shop| shop.samples[5].history_end = 1000,
            "history of 1000 events",
        ),
        (|shop| shop.samples[5].weight = f64::NAN, "weight NaN"),
        (
            |shop| shop.requests[2].history_end = 1000,
            "request 2 has a history of 1000",
        ),
        (
            |shop| shop.requests[2].relevant = vec![3, 3],
            "request 2 do not ascend",
        ),
    ];
    for (damage, expected) in damages {
        let mut shop = shop();
        damage(&mut shop);
        let error = Place::new(shop)
            .run("out", "model: markov\n", &[])
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit, Exit::Data);
    }
}

#[test]
fn inputs_that_do_not_fit_the_mode_are_refused() {
    let place = Place::new(shop());
    let fitted = place
        .run("fit", "model: markov\n", &[])
        .unwrap()
        .join("model");
    let oracle = scores(&shop(), &place, "oracle", |_| Some(0.0));
    let fewer = scores(
        &Shop {
            samples: shop().samples.split_off(9),
            ..shop()
        },
        &place,
        "fewer",
        |_| Some(0.0),
    );
    let act = "model: markov\nact: { drop_lowest: 0.1 }\n";
    for (config, further, expected, exit) in [
        (
            "mode: probe\n",
            vec![],
            "needs the input `model`",
            Exit::Configuration,
        ),
        (
            "model: markov\n",
            vec![("model", fitted.clone())],
            "takes no input `model`",
            Exit::Configuration,
        ),
        (
            "model: markov\n",
            vec![("scores", oracle)],
            "does not say",
            Exit::Configuration,
        ),
        (act, vec![], "needs the input `scores`", Exit::Configuration),
        (
            act,
            vec![("scores", fewer)],
            "has no row in `scores`",
            Exit::Data,
        ),
        (
            "mode: probe\n",
            vec![("model", place.path("samples"))],
            "model.json",
            Exit::Data,
        ),
    ] {
        let error = place.run("out", config, &further).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit, exit, "{error}");
    }
    // A model of another vocabulary.
    let mut other = shop();
    for entry in &mut other.catalogue {
        entry.in_vocabulary = true;
    }
    let error = Place::new(other)
        .run("out", "mode: probe\n", &[("model", fitted)])
        .unwrap_err();
    assert!(error.to_string().contains("fitted on 40 items"), "{error}");
}
