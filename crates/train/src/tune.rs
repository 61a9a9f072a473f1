//! Choosing the parameters of a model: successive halving over a grid, judged on `valuation.fit`
//! or by folds of the training sequences.
//!
//! All settings are fitted on a small share of the sequences; the best `1 / reduction` of them go
//! on to a share `reduction` times as large, until the last rung sees everything (Jamieson and
//! Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS
//! 2016, algorithm 1, with data as the resource, so that models of every kind can be tuned).
//! Shares are nested: a sequence that a rung saw, the next one sees. Test requests are never
//! looked at. Every fit that was tried is a row of `trials`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use models::{Entry, FitError, Observer, Run, Samples, Sequences, TrainingData};
use serde_json::Value;
use stage::{Exit, Failure, Io, Seed, suggest};
use tables::{ItemFeatures, Part, Request, Trial};

use crate::config::{Config, Tune};
use crate::inputs::Catalogue;
use crate::watch::Watch;

/// What tuning works on.
pub(crate) struct Bench<'a> {
    pub(crate) config: &'a Config,
    pub(crate) entry: &'static Entry,
    pub(crate) io: &'a Io,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) sequences: &'a Sequences,
    pub(crate) samples: &'a Samples,
    pub(crate) requests: &'a [Request],
    pub(crate) items: Option<&'a [ItemFeatures]>,
}

/// The settings of a grid on top of the parameters that are written, in the order of the grid:
/// the last parameter turns fastest.
pub(crate) fn settings(
    entry: &Entry,
    parameters: &Value,
    tune: &Tune,
) -> Result<Vec<Value>, Failure> {
    let wrong = |message: String| Failure::new(Exit::Configuration, message);
    if tune.grid.is_empty() {
        return Err(wrong("`tune.grid` names no parameter".to_owned())
            .hint("write such as `tune: { grid: { neighbours: [10, 20, 50] } }`"));
    }
    if tune.reduction < 2 || tune.rungs == 0 {
        return Err(wrong(
            "`tune.reduction` must be at least 2, `tune.rungs` at least 1".to_owned(),
        ));
    }
    if tune.folds == 1 {
        return Err(
            wrong("`tune.folds` is 1: nothing would be trained on".to_owned())
                .hint("write 0 to judge on `valuation.fit`, or 2 and more"),
        );
    }
    let mut settings = vec![parameters.clone()];
    for (name, values) in &tune.grid {
        if !entry.parameters.iter().any(|known| known.name == name) {
            let known = entry.parameters.iter().map(|parameter| parameter.name);
            return Err(wrong(format!(
                "`tune.grid` names `{name}`, which is no parameter of `{}`",
                entry.name
            ))
            .hint(suggest(name, known)));
        }
        if values.is_empty() {
            return Err(wrong(format!("`tune.grid.{name}` is empty")));
        }
        settings = settings
            .iter()
            .flat_map(|setting| {
                values.iter().map(|value| {
                    let mut setting = setting.clone();
                    setting[name] = value.clone();
                    setting
                })
            })
            .collect();
    }
    settings
        .iter()
        .map(|setting| {
            entry.check(setting).map_err(|error| {
                Failure::configuration(error).cause(format!("setting {setting} of `tune.grid`"))
            })
        })
        .collect()
}

/// How many settings of `n` a rung fits, and on which share of the sequences.
fn rung(n: usize, tune: &Tune, rung: u32) -> (usize, f64) {
    let eta = f64::from(tune.reduction);
    let after = i32::try_from(tune.rungs - 1 - rung).unwrap_or(i32::MAX);
    let before = i32::try_from(rung).unwrap_or(i32::MAX);
    let share = eta.powi(-after);
    // At least one goes on.
    let left = (n as f64 / eta.powi(before)).floor().max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number from 1 to n"
    )]
    let left = left as usize;
    (left, share)
}

/// Tries the settings and returns the best with every trial.
pub(crate) fn choose(
    bench: &Bench<'_>,
    parameters: &Value,
    tune: &Tune,
) -> Result<(Value, Vec<Trial>), Failure> {
    let settings = settings(bench.entry, parameters, tune)?;
    let mut remembered = Memory::open(bench.io.resume())?;
    let mut left: Vec<usize> = (0..settings.len()).collect();
    let mut trials = Vec::new();
    for number in 0..tune.rungs {
        let (n, share) = rung(settings.len(), tune, number);
        left.truncate(n);
        let mut judged = Vec::with_capacity(left.len());
        for (done, &setting) in left.iter().enumerate() {
            bench.io.note(&format!(
                "tuning: rung {} of {}, setting {} of {}: {}",
                number + 1,
                tune.rungs,
                done + 1,
                left.len(),
                settings[setting]
            ));
            let key = (number, setting);
            let (validation, problem) = if let Some(known) = remembered.find(key) {
                known
            } else {
                let tried = bench.try_setting(&settings[setting], share, tune.folds)?;
                remembered.keep(key, &tried)?;
                tried
            };
            judged.push((validation, setting));
            trials.push(Trial {
                rung: number,
                setting: u32::try_from(setting).unwrap_or(u32::MAX),
                parameters: settings[setting].to_string(),
                share,
                validation,
                problem,
                is_chosen: false,
            });
        }
        // Best first; what could not be judged is last; of equals the first of the grid.
        judged.sort_by(|a, b| {
            let value = |x: Option<f64>| x.unwrap_or(f64::NEG_INFINITY);
            value(b.0).total_cmp(&value(a.0)).then(a.1.cmp(&b.1))
        });
        if judged.first().is_none_or(|(best, _)| best.is_none()) {
            let problem = trials.iter().find_map(|trial| trial.problem.clone());
            return Err(Failure::new(
                Exit::Computation,
                format!(
                    "no setting of `tune.grid` could be judged: {}",
                    problem.unwrap_or_else(|| "there is nothing to judge on".to_owned())
                ),
            )
            .hint(
                "check that the `valuation.fit` part has requests, or write `tune: { folds: 3 }`",
            ));
        }
        left = judged.into_iter().map(|(_, setting)| setting).collect();
    }
    let best = left[0];
    for trial in &mut trials {
        trial.is_chosen = trial.setting as usize == best;
    }
    bench.io.note(&format!("tuning: chosen {}", settings[best]));
    Ok((settings[best].clone(), trials))
}

impl Bench<'_> {
    /// Validation figure of a setting on a share of the sequences, or what went wrong.
    fn try_setting(
        &self,
        setting: &Value,
        share: f64,
        folds: u32,
    ) -> Result<(Option<f64>, Option<String>), Failure> {
        let seed = Seed::root(self.config.seed);
        let draws = seed.child("tune").child("share").stream();
        let is_seen = |sequence: u32| draws.uniform(u64::from(sequence), 0) < share;
        if folds == 0 {
            let samples = self.samples.of_sequences(is_seen);
            return self.judge(setting, &samples, self.requests);
        }
        let fold_draws = seed.child("tune").child("fold").stream();
        let fold_of = |sequence: u32| fold_draws.below(u64::from(folds), u64::from(sequence), 0);
        let mut sum = 0.0;
        for fold in 0..u64::from(folds) {
            let samples = self
                .samples
                .of_sequences(|sequence| is_seen(sequence) && fold_of(sequence) != fold);
            let requests: Vec<Request> =
                held_out(self.samples, |sequence| fold_of(sequence) == fold);
            match self.judge(setting, &samples, &requests)? {
                (Some(value), _) => sum += value,
                problem => return Ok(problem),
            }
        }
        Ok((Some(sum / f64::from(folds)), None))
    }

    fn judge(
        &self,
        setting: &Value,
        samples: &Samples,
        requests: &[Request],
    ) -> Result<(Option<f64>, Option<String>), Failure> {
        let data = TrainingData::new(samples, self.sequences, self.catalogue.n_vocabulary)
            .map_err(Failure::data)?;
        let data = match self.items {
            Some(items) => data.with_items(items),
            None => data,
        };
        let mut watch = Watch::new(
            self.io,
            self.catalogue,
            self.sequences,
            requests,
            self.config.seen,
        )
        .without_memory();
        let mut run = Run {
            seed: Seed::root(self.config.seed).child("fit"),
            observer: &mut watch,
        };
        let fitted = self.entry.fit(setting, &data, &mut run);
        match fitted.and_then(|model| watch.validate(model.as_ref())) {
            Ok(value) => {
                let problem = value
                    .is_none()
                    .then(|| "no request could be judged".to_owned());
                Ok((value, problem))
            }
            // One setting that diverges or does not fit into memory is a result, not an end.
            Err(
                error @ (FitError::Diverged { .. }
                | FitError::NotFinite { .. }
                | FitError::TooManyItems { .. }
                | FitError::Validation(_)),
            ) => Ok((None, Some(in_words(&error)))),
            Err(error) => Err(crate::fit::cannot_fit(error)),
        }
    }
}

/// An error with what it comes from.
fn in_words(error: &FitError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// One request for each sequence that is held out: the targets of its last training instant, given
/// all before.
fn held_out(samples: &Samples, is_held_out: impl Fn(u32) -> bool) -> Vec<Request> {
    let mut last: BTreeMap<u32, (u32, Vec<u32>)> = BTreeMap::new();
    for (sequence, history_end, item) in samples.targets() {
        if history_end == 0 || !is_held_out(sequence) {
            continue;
        }
        let (end, items) = last.entry(sequence).or_default();
        if history_end > *end {
            *end = history_end;
            items.clear();
        }
        if history_end == *end {
            items.push(item);
        }
    }
    (0_u32..)
        .zip(last)
        .map(|(request, (sequence, (history_end, mut relevant)))| {
            relevant.sort_unstable();
            relevant.dedup();
            Request {
                request,
                part: Part::ValuationFit,
                sequence,
                history_end,
                requested_at: None,
                relevant,
            }
        })
        .collect()
}

type Tried = (Option<f64>, Option<String>);

/// Trials that an interrupted run has finished: a line of JSON each.
struct Memory<'a> {
    directory: Option<&'a Path>,
    known: BTreeMap<(u32, usize), Tried>,
}

const TRIALS: &str = "trials.jsonl";

impl<'a> Memory<'a> {
    fn open(directory: Option<&'a Path>) -> Result<Self, Failure> {
        let mut known = BTreeMap::new();
        if let Some(directory) = directory {
            let path = directory.join(TRIALS);
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(error) => return Err(cannot_use(&path, error)),
            };
            // A line that a kill cut short is a trial that is made again.
            let lines = text.lines().map(serde_json::from_str);
            known.extend(lines.map_while(Result::ok));
        }
        Ok(Self { directory, known })
    }

    fn find(&self, key: (u32, usize)) -> Option<Tried> {
        self.known.get(&key).cloned()
    }

    fn keep(&mut self, key: (u32, usize), tried: &Tried) -> Result<(), Failure> {
        self.known.insert(key, tried.clone());
        let Some(directory) = self.directory else {
            return Ok(());
        };
        let path = directory.join(TRIALS);
        let mut text = String::new();
        for entry in &self.known {
            text.push_str(&serde_json::to_string(&entry).map_err(Failure::bug)?);
            text.push('\n');
        }
        let beside = path.with_extension("unfinished");
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|error| cannot_use(&path, error))
    }
}

fn cannot_use(path: &Path, error: std::io::Error) -> Failure {
    Failure::environment(error).cause(format!("using `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tune(reduction: u32, rungs: u32) -> Tune {
        Tune {
            grid: BTreeMap::new(),
            reduction,
            rungs,
            folds: 0,
        }
    }

    #[test]
    fn halving_ends_with_all_data_and_never_with_nothing() {
        let plan: Vec<(usize, f64)> = (0..3).map(|at| rung(9, &tune(3, 3), at)).collect();
        assert_eq!(plan.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [9, 3, 1]);
        for ((_, found), expected) in plan.iter().zip([1.0 / 9.0, 1.0 / 3.0, 1.0]) {
            assert!((found - expected).abs() < 1e-15);
        }
        assert_eq!(rung(2, &tune(3, 3), 2).0, 1);
        assert_eq!(rung(5, &tune(2, 1), 0), (5, 1.0));
    }

    #[test]
    fn grids_turn_their_last_parameter_fastest_and_name_what_is_wrong() {
        let entry = models::entry("itemknn").unwrap();
        let base = entry.check(&Value::Null).unwrap();
        let mut tune = tune(2, 1);
        let grid = [
            ("neighbours", vec![5.into(), 7.into()]),
            ("shrink", vec![0.into(), 2.into()]),
        ];
        tune.grid = grid.map(|(name, values)| (name.to_owned(), values)).into();
        let found = settings(entry, &base, &tune).unwrap();
        let pairs: Vec<(u64, f64)> = found
            .iter()
            .map(|setting| {
                let shrink = setting["shrink"].as_f64().unwrap();
                (setting["neighbours"].as_u64().unwrap(), shrink)
            })
            .collect();
        assert_eq!(pairs, [(5, 0.0), (5, 2.0), (7, 0.0), (7, 2.0)]);
        tune.grid.insert("neighbors".to_owned(), vec![3.into()]);
        let error = settings(entry, &base, &tune).unwrap_err().to_string();
        assert!(error.contains("did you mean `neighbours`?"), "{error}");
        tune.grid = BTreeMap::from([("neighbours".to_owned(), vec![Value::from(-1)])]);
        let error = settings(entry, &base, &tune).unwrap_err().to_string();
        assert!(error.contains("-1"), "{error}");
    }

    #[test]
    fn what_was_tried_is_remembered_to_the_bit_and_a_cut_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let third = (Some(1.0 / 3.0), None);
        let failed = (None, Some("diverged".to_owned()));
        let mut memory = Memory::open(Some(folder.path())).unwrap();
        memory.keep((0, 1), &third).unwrap();
        memory.keep((1, 0), &failed).unwrap();
        let path = folder.path().join(TRIALS);
        let text = fs::read_to_string(&path).unwrap();
        let memory = Memory::open(Some(folder.path())).unwrap();
        assert_eq!(memory.find((0, 1)), Some(third.clone()));
        assert_eq!(memory.find((1, 0)), Some(failed));
        fs::write(&path, &text[..text.len() - 4]).unwrap();
        let memory = Memory::open(Some(folder.path())).unwrap();
        assert_eq!(memory.find((0, 1)), Some(third));
        assert_eq!(memory.find((1, 0)), None);
    }
}
