//! The whole stage on a small shop: fit, tune, probe, serve, and what it refuses.

use std::collections::BTreeMap;
use std::path::Path;

use models::Tensors;
use stage::Exit;
use tables::{
    Event, ItemCount, NOT_RANKED, Part, Prediction, ProbeRequest, ProbeSample, Request, Sample,
    TrainingEpoch, Transition, Trial,
};

use crate::shop::{N_ITEMS, N_VOCABULARY, Place, Shop, bytes, scores, shop};

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

/// The shop, where every third event is a view.
fn shop_with_views() -> Shop {
    let mut shop = shop();
    let kind =
        |sample_id: u64| [Event::View, Event::Purchase][usize::from(!sample_id.is_multiple_of(3))];
    for sample in &mut shop.samples {
        sample.event = kind(sample.sample_id);
    }
    for event in &mut shop.sequences {
        event.event = kind(event.sample_id);
    }
    shop
}

#[test]
fn a_ranker_learns_from_all_events_and_then_from_purchases() {
    let place = Place::new(shop_with_views());
    let model = "name: bert4rec, dimensions: 8, epochs: 5, patience: 1, pretrain_epochs: 2, \
                 target: purchase, inputs: [events, baskets, attributes]";
    let plain = format!("model: {{ {model} }}\n");
    let base = place.run("base", &plain, &[]).unwrap();
    let rows: Vec<TrainingEpoch> = tables::read_all(&base.join("training")).unwrap();
    let n_of = |event: Option<Event>| {
        let shop = shop_with_views();
        let samples = shop.samples.into_iter().filter(|row| row.history_end > 0);
        let counted = samples.filter(|row| event.is_none_or(|event| row.event == event));
        counted.count() as u64
    };
    let bought = n_of(Some(Event::Purchase));
    assert!(rows.len() > 2 && bought < n_of(None));
    for row in &rows {
        let is_first_phase = row.epoch < 2;
        assert_eq!(row.validation.is_none(), is_first_phase);
        let n = if is_first_phase { n_of(None) } else { bought };
        assert_eq!(row.n_samples, n);
    }
    // Weight 1 for all is what the base was trained with, through both phases.
    let nothing = scores(&shop(), &place, "nothing", |_| Some(0.0));
    let config = format!("{plain}regime: mask\nact: {{ drop_below: 0 }}\n");
    let further = [("scores", nothing), ("model", base.join("model"))];
    let again = place.run("again", &config, &further).unwrap();
    let weights = |out: &Path| std::fs::read(out.join("model/weights.safetensors")).unwrap();
    assert!(weights(&base) == weights(&again));
}

#[test]
fn a_target_that_never_occurs_is_refused_with_those_that_do() {
    let place = Place::new(shop_with_views());
    let failure = place.run("x", "model: { name: gru4rec, target: cart }\n", &[]);
    let failure = failure.unwrap_err();
    assert_eq!(failure.exit, Exit::Configuration);
    let message = failure.to_string();
    assert!(
        message.contains("`cart`") && message.contains("view, purchase"),
        "{message}"
    );
    assert!(failure.hints[0].contains("`target`"), "{failure:?}");
}

#[test]
fn inputs_can_be_tuned_and_the_items_are_read_for_those_that_ask() {
    let place = Place::new(shop_with_views());
    let config = "model: { name: sasrec, dimensions: 8, epochs: 2 }\n\
                  tune: { grid: { inputs: [[], [events], [attributes]] } }\n";
    let out = place.run("tuned", config, &[]).unwrap();
    let trials: Vec<Trial> = tables::read_all(&out.join("trials")).unwrap();
    assert_eq!(trials.len(), 3);
    assert!(
        trials.iter().all(|trial| trial.problem.is_none()),
        "{trials:?}"
    );
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
