//! Inputs, runs and what they found, shared by all tests of the stage.

use std::path::{Path, PathBuf};

use evaluate::{Config, Evaluate};
use stage::{Failure, Io, Label, Stage};
use tables::{
    Conclusion, Event, Measured, Metric, NOT_RANKED, Origin, Part, PerRequest, Planted, Prediction,
    Request, Row, Sample, Score, Suspect,
};

/// A place for inputs and outputs, and the inputs given so far.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) inputs: Vec<(String, String, PathBuf)>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            inputs: Vec::new(),
        }
    }

    /// Adds an input of one table.
    pub(crate) fn give<R: Row>(&mut self, role: &str, label: &str, rows: Vec<R>) -> &mut Self {
        let path = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        tables::write_all(&path, rows).unwrap();
        self.inputs.push((role.to_owned(), label.to_owned(), path));
        self
    }

    /// Runs the stage into a directory of its own.
    pub(crate) fn run(&self, out: &str, config: &Config) -> Result<Found, Failure> {
        let out = self.directory.path().join(out);
        let mut io = Io::new(&out, "data");
        for (role, label, path) in &self.inputs {
            io = io.with_input(role, Label::parse(label).unwrap(), path);
        }
        Evaluate::run(config, &io)?;
        Ok(Found {
            metrics: read(&out, "metrics"),
            per_request: read(&out, "per_request"),
            conclusions: read(&out, "conclusions"),
            costs: read(&out, "costs"),
            out,
        })
    }
}

pub(crate) fn read<R: Row>(out: &Path, role: &str) -> Vec<R> {
    tables::read_all(&out.join(role)).unwrap()
}

/// The outputs of one run.
pub(crate) struct Found {
    pub(crate) out: PathBuf,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) per_request: Vec<PerRequest>,
    pub(crate) conclusions: Vec<Conclusion>,
    pub(crate) costs: Vec<Measured>,
}

impl Found {
    /// The one row with these properties, written `family metric part segment node model method`,
    /// where `-` is any or none.
    pub(crate) fn row(&self, key: &str) -> &Metric {
        let words: Vec<&str> = key.split(' ').collect();
        let is_one = |row: &&Metric| {
            let found = [
                row.family.as_str(),
                row.metric.as_str(),
                row.part.as_str(),
                row.segment.as_str(),
                row.node.as_str(),
                row.model.as_deref().unwrap_or("-"),
                row.method.as_deref().unwrap_or("-"),
            ];
            words
                .iter()
                .zip(found)
                .all(|(word, found)| *word == "-" || *word == found)
        };
        let rows: Vec<&Metric> = self.metrics.iter().filter(is_one).collect();
        assert_eq!(rows.len(), 1, "{key}: {rows:#?}");
        rows[0]
    }

    pub(crate) fn close(&self, key: &str, value: f64, n: u64) {
        let row = self.row(key);
        assert!(
            (row.value - value).abs() < 1e-12,
            "{key}: {} is not {value}",
            row.value
        );
        assert_eq!(row.n, n, "{key}");
        if let (Some(low), Some(high)) = (row.low, row.high) {
            assert!(low <= high, "{key}");
        }
    }

    pub(crate) fn says(&self, topic: &str, what: &str) {
        assert!(
            self.conclusions
                .iter()
                .any(|row| row.topic == topic && row.text.contains(what)),
            "nothing about {topic} says {what:?}: {:#?}",
            self.conclusions
        );
    }
}

pub(crate) fn request(request: u32, part: Part, history_end: u32, relevant: &[u32]) -> Request {
    Request {
        request,
        part,
        sequence: request,
        history_end,
        requested_at: Some(tables::Instant(1)),
        relevant: relevant.to_vec(),
    }
}

/// A prediction whose relevant items are new and stand at these ranks, without ties.
pub(crate) fn prediction(request: &Request, ranks: &[u32]) -> Prediction {
    let better: Vec<u32> = ranks
        .iter()
        .map(|&rank| {
            if rank == NOT_RANKED {
                NOT_RANKED
            } else {
                rank - 1
            }
        })
        .collect();
    Prediction {
        request: request.request,
        part: request.part,
        history_length: request.history_end,
        n_candidates: 100,
        relevant: request.relevant.clone(),
        tied: vec![0; better.len()],
        is_repeat: vec![false; better.len()],
        better_new: better.clone(),
        tied_new: vec![0; better.len()],
        better,
        top_items: (0..20).collect(),
        top_scores: vec![0.0; 20],
    }
}

pub(crate) fn discount(rank: f64) -> f64 {
    1.0 / (rank + 1.0).log(2.0)
}

pub(crate) fn quick() -> Config {
    Config {
        resamples: 50,
        permutations: 200,
        ..Config::default()
    }
}

/// Eight test requests with one relevant item each.
pub(crate) fn eight_requests() -> Vec<Request> {
    (0..8)
        .map(|index| request(index, Part::Test, 1, &[index]))
        .collect()
}

pub(crate) fn all_at(requests: &[Request], rank: u32) -> Vec<Prediction> {
    requests
        .iter()
        .map(|request| prediction(request, &[rank]))
        .collect()
}

pub(crate) fn samples(n: u64) -> Vec<Sample> {
    (0..n)
        .map(|index| Sample {
            sample_id: index << 16,
            sequence: u32::try_from(index).unwrap(),
            position: 0,
            history_end: 0,
            item: 0,
            event: Event::Click,
            occurred_at: None,
            label: 1.0,
            weight: 1.0,
            origin: Origin::Observed,
        })
        .collect()
}

pub(crate) fn scores(method: &str, suspect: Suspect, values: &[Option<f64>]) -> Vec<Score> {
    (0_u64..)
        .zip(values)
        .map(|(index, &score)| Score {
            method: method.to_owned(),
            sample_id: index << 16,
            score,
            std_error: None,
            n_updates: 1,
            suspect,
        })
        .collect()
}

pub(crate) fn planted(samples: &[(u64, &str)]) -> Vec<Planted> {
    samples
        .iter()
        .map(|&(index, kind)| Planted {
            sample_id: index << 16,
            kind: kind.to_owned(),
            clean_item: None,
        })
        .collect()
}

/// A bench with predictions, so that detection can be looked at.
pub(crate) fn detection_bench(planted_samples: &[(u64, &str)], n: u64) -> Bench {
    let requests = eight_requests();
    let mut bench = Bench::new();
    bench
        .give("predictions", "node=model", all_at(&requests, 1))
        .give("requests", "", requests)
        .give("samples", "", samples(n))
        .give("planted", "node=split", planted(planted_samples));
    bench
}
