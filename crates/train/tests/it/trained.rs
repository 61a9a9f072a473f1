//! What the stage gives of a model that is trained step by step: losses that belong to scores,
//! states along the training.

use models::{History, Losses, Model, Sequences, Tensors};
use stage::Stage;
use tables::{
    KeptCheckpoint, Part, Preconditioner, ProbeAttention, ProbeCurvature, ProbeDirection,
    ProbeGradient, ProbeRequest, ProbeSample, Response, TrainingEpoch,
};
use train::Train;

use crate::shop::{N_ITEMS, N_VOCABULARY, Place, bytes, shop};

/// Windows of four events, so that most histories are longer.
const SASREC: &str =
    "{ name: sasrec, dimensions: 8, length: 4, stride: 2, batch: 64, epochs: 7, patience: 3 }";

fn sequences() -> Sequences {
    let mut sequences = Sequences::default();
    for event in shop().sequences {
        sequences
            .push(event.sequence, event.position, event.item)
            .unwrap();
    }
    sequences
}

/// -log of the softmax over the vocabulary.
fn cross_entropy(model: &dyn Model, history: History<'_>, item: u32) -> f64 {
    let mut scores = vec![0.0; N_ITEMS as usize];
    model.score(None, history, &mut scores);
    if history.is_empty() {
        return -libm::log(scores[item as usize]);
    }
    let known = &scores[..N_VOCABULARY as usize];
    let sum: f64 = known.iter().map(|&x| libm::exp(x)).sum();
    libm::log(sum) - scores[item as usize]
}

#[test]
fn a_probe_tells_losses_of_samples_by_window_and_of_requests_by_score() {
    let place = Place::new(shop());
    let config = format!("model: {SASREC}\nseed: 3\n");
    let fitted = place.run("fit", &config, &[]).unwrap().join("model");
    let (_, model) = models::load(&fitted).unwrap();
    let wired = [("model", fitted)];
    let out = place.run("probe", "mode: probe\n", &wired).unwrap();
    let sequences = sequences();
    let losses: &dyn Losses = model.losses().unwrap();

    let samples: Vec<ProbeSample> = tables::read_all(&out.join("probe")).unwrap();
    assert_eq!(samples.len(), shop().samples.len());
    for row in &samples {
        let history = sequences.history(row.sequence, row.history_length).unwrap();
        let expected = losses.loss(history, row.item);
        assert!(
            (row.loss.unwrap() - expected).abs() < 2e-6,
            "{row:?} {expected}"
        );
    }
    let requests: Vec<ProbeRequest> = tables::read_all(&out.join("probe")).unwrap();
    let config = format!("mode: respond\nmodel: {SASREC}\nseed: 3\n");
    let out = place.run("respond", &config, &[]).unwrap();
    let responses: Vec<Response> = tables::read_all(&out.join("responses")).unwrap();
    let (mut n_long, mut n_other) = (0, 0);
    for ((row, request), response) in requests.iter().zip(&shop().requests).zip(&responses) {
        let history = sequences
            .history(request.sequence, request.history_end)
            .unwrap();
        for (&item, loss) in row.relevant.iter().zip(&row.losses) {
            let expected = cross_entropy(model.as_ref(), history, item);
            assert!((loss - expected).abs() < 2e-6, "{row:?} {expected}");
            n_long += usize::from(history.len() > 4);
            let in_training = losses.loss(history, item);
            n_other += usize::from((in_training - loss).abs() > 1e-4);
        }
        let mean = row.losses.iter().sum::<f64>() / row.losses.len() as f64;
        // The same training, asked the same.
        assert_eq!((response.request, response.subset), (row.request, None));
        assert!((response.loss.unwrap() - mean).abs() < 1e-9);
    }
    assert!(n_long > 20 && n_other > 10, "{n_long} {n_other}");
}

#[test]
fn states_along_the_training_end_with_the_model_that_is_returned() {
    let place = Place::new(shop());
    let bare = format!("model: {SASREC}\nseed: 3\n");
    let config = format!("{bare}keep_checkpoints: 3\n");
    let out = place.run("kept", &config, &[]).unwrap();
    let rows: Vec<KeptCheckpoint> = tables::read_all(&out.join("checkpoints")).unwrap();
    let epochs: Vec<TrainingEpoch> = tables::read_all(&out.join("training")).unwrap();
    let (_, model) = models::load(&out.join("model")).unwrap();
    let best = epochs
        .iter()
        .reduce(|best, next| {
            if next.validation > best.validation {
                next
            } else {
                best
            }
        })
        .unwrap();
    assert_eq!(rows.len(), 3.min(best.epoch as usize + 1));
    assert!(rows.windows(2).all(|pair| pair[0].step < pair[1].step));
    let last = rows.last().unwrap();
    assert_eq!((last.epoch, Some(last.step)), (best.epoch, model.steps()));
    for row in &rows {
        let epoch = &epochs[row.epoch as usize];
        assert_eq!(row.validation, epoch.validation);
        assert_eq!(row.learning_rate, epoch.learning_rate);
        let state = Tensors::load(&out.join("checkpoints").join(&row.file)).unwrap();
        assert_eq!(state.u64("optimiser.steps").unwrap(), [row.step]);
        assert!(state.names().all(|name| !name.starts_with("best.")));
        let moments = state.f32("optimiser.square.item").unwrap();
        assert_eq!(moments.len(), state.f32("weight.item").unwrap().len());
    }
    let weights = Tensors::load(&out.join("model/weights.safetensors")).unwrap();
    let state = Tensors::load(&out.join("checkpoints").join(&last.file)).unwrap();
    for name in state.names() {
        if let Some(parameter) = name.strip_prefix("weight.") {
            assert_eq!(state.f32(name).unwrap(), weights.f32(parameter).unwrap());
        }
    }
    // Who keeps states trains alike, and nothing else is left behind.
    let bare = place.run("bare", &bare, &[]).unwrap();
    assert!(!bare.join("checkpoints").exists());
    let mut kept = bytes(&out);
    kept.retain(|path, _| !path.to_string_lossy().contains("checkpoints"));
    let strip = |files: std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        let files = files.into_iter();
        files
            .map(|(path, bytes)| (path.components().skip(1).collect(), bytes))
            .collect::<std::collections::BTreeMap<std::path::PathBuf, _>>()
    };
    assert_eq!(strip(kept), strip(bytes(&bare)));
    assert_eq!(
        std::fs::read_dir(out.join("checkpoints")).unwrap().count(),
        rows.len() + 1
    );
    // In regime `mask` the last state is that of the base, whose steps are repeated.
    let base = [("model", out.join("model"))];
    let masked = format!("{config}regime: mask\n");
    let masked = place.run("masked", &masked, &base).unwrap();
    let again: Vec<KeptCheckpoint> = tables::read_all(&masked.join("checkpoints")).unwrap();
    assert_eq!(again.last().unwrap().step, last.step);
    let again = std::fs::read(masked.join("checkpoints").join(&last.file)).unwrap();
    assert!(again == std::fs::read(out.join("checkpoints").join(&last.file)).unwrap());
}

#[test]
fn a_model_without_gradients_gives_a_table_without_states() {
    let place = Place::new(shop());
    for model in ["markov", "bpr"] {
        let config = format!("model: {model}\nkeep_checkpoints: 3\n");
        let out = place.run(model, &config, &[]).unwrap().join("checkpoints");
        let rows: Vec<KeptCheckpoint> = tables::read_all(&out).unwrap();
        assert!(rows.is_empty());
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
    }
}

#[test]
fn a_finished_training_that_is_killed_later_still_gives_its_states() {
    let place = Place::new(shop());
    let config = format!("model: {SASREC}\nseed: 3\nkeep_checkpoints: 2\n");
    let whole = place.run("whole", &config, &[]).unwrap();
    let resume = place.make("resume");
    for out in ["first", "second"] {
        let io = place.io(out, &[]).with_resume(&resume);
        Train::run(&stage::yaml::parse(&config, "t").unwrap(), &io).unwrap();
        let found = bytes(&place.path(out).join("checkpoints"));
        assert_eq!(found, bytes(&whole.join("checkpoints")), "{out}");
    }
}

#[test]
fn a_probe_takes_gradients_at_the_fitted_model_and_along_its_training() {
    let place = Place::new(shop());
    // The last epoch is the first that is validated, and so the best.
    let sasrec = SASREC.replace("patience: 3", "validate_every: 7");
    let config = format!("model: {sasrec}\nseed: 3\nkeep_checkpoints: 3\n");
    let out = place.run("fit", &config, &[]).unwrap();
    let kept: Vec<KeptCheckpoint> = tables::read_all(&out.join("checkpoints")).unwrap();
    let fitted = ("model", out.join("model"));
    let states = ("checkpoints", out.join("checkpoints"));
    let probe = |name: &str, config: &str, further: &[(&str, std::path::PathBuf)]| {
        let out = place.run(name, config, further).unwrap();
        tables::read_all::<ProbeGradient>(&out.join("probe")).unwrap()
    };
    let gradients = "mode: probe\ngradients: {}\n";
    let at_end = probe("end", gradients, std::slice::from_ref(&fitted));
    let along = probe("along", gradients, &[fitted.clone(), states.clone()]);
    let n = shop().samples.len();
    assert!(kept.len() > 1 && n > 50);
    assert_eq!((at_end.len(), along.len()), (n, n * kept.len()));
    for (state, rows) in kept.iter().zip(along.chunks(n)) {
        assert!(rows.iter().all(|row| row.step == state.step
            && row.learning_rate == state.learning_rate
            && row.part == Part::ValuationFit));
        assert!(rows.is_sorted_by(|a, b| a.sample_id < b.sample_id));
    }
    // The last state is the fitted model.
    let last = &along[n * (kept.len() - 1)..];
    let mut n_without = 0;
    for (a, b) in at_end.iter().zip(last) {
        assert_eq!((a.sample_id, a.step), (b.sample_id, b.step));
        assert_eq!((a.norm, a.target_product), (b.norm, b.target_product));
        assert!(a.norm_without_tables <= a.norm);
        n_without += usize::from(a.norm.is_none());
    }
    let rows = shop().samples;
    let first_events = rows.iter().filter(|row| row.history_end == 0);
    assert_eq!(n_without, first_events.count());
    // Against other requests products differ, lengths do not.
    let tune = "mode: probe\ngradients: { part: valuation.tune }\n";
    let other = probe("tune", tune, std::slice::from_ref(&fitted));
    assert!(at_end.iter().zip(&other).all(|(a, b)| a.norm == b.norm));
    assert!(
        at_end
            .iter()
            .zip(&other)
            .any(|(a, b)| a.target_product != b.target_product)
    );

    // A model without gradients gives none, and states of another training are refused.
    let counted = place.run("counted", "model: markov\n", &[]).unwrap();
    let out = place
        .run("none", gradients, &[("model", counted.join("model"))])
        .unwrap();
    assert!(!out.join("probe/probe_gradients.parquet").exists());
    let config = format!("model: {SASREC}\nseed: 4\nkeep_checkpoints: 1\n")
        .replace("epochs: 7", "epochs: 2");
    let other = place.run("other", &config, &[]).unwrap();
    let wrong = [fitted, ("checkpoints", other.join("checkpoints"))];
    let failure = place.run("wrong", gradients, &wrong).unwrap_err();
    assert!(failure.to_string().contains("end at step"), "{failure}");
}

#[test]
fn directions_are_taken_at_the_states_that_they_are_of() {
    let place = Place::new(shop());
    let sasrec = SASREC.replace("patience: 3", "validate_every: 7");
    let config = format!("model: {sasrec}\nseed: 3\nkeep_checkpoints: 3\n");
    let out = place.run("fit", &config, &[]).unwrap();
    let kept: Vec<KeptCheckpoint> = tables::read_all(&out.join("checkpoints")).unwrap();
    let fitted = ("model", out.join("model"));
    let states = ("checkpoints", out.join("checkpoints"));
    let both = [fitted.clone(), states];
    let probe = |name: &str, gradients: &str| {
        let config = format!("mode: probe\ngradients: {gradients}\n");
        place.run(name, &config, &both).unwrap().join("probe")
    };
    let with = probe("with", "{ directions: [ekfac, adam, kfac], damping: 0.2 }");
    let rows: Vec<ProbeDirection> = tables::read_all(&with).unwrap();
    let n = shop().samples.len();
    assert_eq!(rows.len(), n * (kept.len() + 2));
    assert!(rows.is_sorted_by(|a, b| {
        (a.step, a.preconditioner, a.sample_id) < (b.step, b.preconditioner, b.sample_id)
    }));
    // Every state has the optimiser's, the last one also those of a Fisher matrix.
    let last = kept.last().unwrap().step;
    for row in &rows {
        let is_adam = row.preconditioner == Preconditioner::Adam;
        assert!(is_adam || row.step == last);
        assert_eq!(
            row.product.is_some(),
            row.self_product.is_some() || is_adam && row.update_norm.is_some()
        );
        assert_eq!(
            is_adam && row.product.is_some(),
            row.update_product.is_some()
        );
        assert!(row.self_product.is_none_or(|square| square >= 0.0));
    }
    let of = |rows: &[ProbeDirection], one: Preconditioner| -> Vec<Option<f64>> {
        let rows = rows
            .iter()
            .filter(|row| row.preconditioner == one && row.step == last);
        rows.map(|row| row.product).collect()
    };
    assert_ne!(
        of(&rows, Preconditioner::Kfac),
        of(&rows, Preconditioner::Ekfac)
    );
    // What else a probe knows is the same with directions and without.
    let gradients: Vec<ProbeGradient> = tables::read_all(&with).unwrap();
    let without = probe("without", "{}");
    assert_eq!(
        gradients,
        tables::read_all::<ProbeGradient>(&without).unwrap()
    );
    assert!(!without.join("probe_directions.parquet").exists());
    let blocks: Vec<ProbeCurvature> = tables::read_all(&with).unwrap();
    assert!(
        blocks.iter().any(|block| block.is_turned) && blocks.iter().any(|block| !block.is_turned)
    );
    for block in &blocks {
        let of_all = blocks
            .iter()
            .filter(|other| other.preconditioner == block.preconditioner);
        let largest = of_all
            .map(|other| other.mean_eigenvalue)
            .fold(0.0, f64::max);
        // The bias of attention keys has no gradient but rounding.
        let expected = 0.2 * block.mean_eigenvalue.max(1e-8 * largest);
        assert!((block.damping - expected).abs() <= 1e-12 * expected);
    }

    // Drawn labels give another Fisher matrix.
    let drawn = probe(
        "drawn",
        "{ directions: [ekfac], damping: 0.2, labels: sampled }",
    );
    let drawn: Vec<ProbeDirection> = tables::read_all(&drawn).unwrap();
    assert_eq!(drawn.len(), n);
    assert_ne!(
        of(&drawn, Preconditioner::Ekfac),
        of(&rows, Preconditioner::Ekfac)
    );
    // The fitted model alone does not keep the optimiser.
    let adam = "mode: probe\ngradients: { directions: [adam] }\n";
    let failure = place.run("alone", adam, &[fitted]).unwrap_err();
    assert!(failure.to_string().contains("`checkpoints`"), "{failure}");
}

#[test]
fn attention_and_hidden_states_fit_the_samples() {
    let place = Place::new(shop());
    let fit = format!("model: {SASREC}\nseed: 3\n");
    let out = place.run("fit", &fit, &[]).unwrap();
    let fitted = [("model", out.join("model"))];
    let both = "mode: probe\nattention: {}\nhidden_states: true\n";
    let probe = place.run("both", both, &fitted).unwrap().join("probe");
    let rows: Vec<ProbeAttention> = tables::read_all(&probe).unwrap();
    let samples = shop().samples;
    assert_eq!(rows.len(), samples.len());
    assert!(rows.is_sorted_by(|a, b| a.sample_id < b.sample_id));
    let with_history = samples.iter().filter(|row| row.history_end > 0).count();
    // Each prediction has one to give away, to the events of training before it.
    let given: f64 = rows.iter().map(|row| row.raw).sum();
    assert!((given - with_history as f64).abs() < 1e-3, "{given}");
    assert!(rows.iter().any(|row| row.gradient > 0.0));
    let tensors = models::Tensors::load(&probe.join("hidden.safetensors")).unwrap();
    assert_eq!(tensors.u32("sample").unwrap().len(), with_history);
    let table = tables::read_all::<ProbeSample>(&probe).unwrap();
    for &place in tensors.u32("sample").unwrap() {
        assert!(table[place as usize].history_length > 0);
    }
    let requests = tensors.u32("request").unwrap();
    assert!(requests.is_sorted_by(|a, b| a < b) && !requests.is_empty());

    let tune = "mode: probe\nattention: { part: valuation.tune }\n";
    let probe = place.run("tune", tune, &fitted).unwrap().join("probe");
    let rows: Vec<ProbeAttention> = tables::read_all(&probe).unwrap();
    assert!(rows.iter().all(|row| row.part == Part::ValuationTune));
    assert!(!probe.join("hidden.safetensors").exists());
    // A count model has neither.
    let counted = place.run("counted", "model: markov\n", &[]).unwrap();
    let counted = [("model", counted.join("model"))];
    let probe = place.run("none", both, &counted).unwrap().join("probe");
    assert!(!probe.join("probe_attention.parquet").exists());
}
