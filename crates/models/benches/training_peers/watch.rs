//! An observer that notes what time and memory each step and epoch took.

use std::time::Instant;

use models::{Epoch, FitError, Model, Observer};
use serde_json::{Value, json};

use crate::clock::{Clock, peak_kib};
use crate::log::Log;
use crate::ranking;

/// Notes what each step and epoch took.
pub(crate) struct Watch<'a> {
    log: &'a Log,
    started: Instant,
    clock: Clock,
    /// Milliseconds of each step; the first includes what comes before it.
    pub(crate) wall_ms: Vec<f64>,
    pub(crate) cpu_ms: Vec<f64>,
    /// Seconds spent on validation, which are none of training.
    pub(crate) validating: f64,
    pub(crate) validating_cpu: f64,
    /// The most that was resident before anything was validated: an epoch sees every shape, and
    /// validation needs memory of its own.
    pub(crate) peak: Option<u64>,
    /// Training seconds until the end of each epoch, and NDCG@10 there.
    pub(crate) epochs: Vec<Value>,
    begin: Instant,
    begin_cpu: Clock,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(log: &'a Log) -> Self {
        Self {
            log,
            started: Instant::now(),
            clock: Clock::now(),
            wall_ms: Vec::new(),
            cpu_ms: Vec::new(),
            validating: 0.0,
            validating_cpu: 0.0,
            peak: None,
            epochs: Vec::new(),
            begin: Instant::now(),
            begin_cpu: Clock::now(),
        }
    }
}

impl Observer for Watch<'_> {
    fn epoch(&mut self, epoch: &Epoch) {
        self.epochs.push(json!({
            "seconds": self.begin.elapsed().as_secs_f64() - self.validating,
            "cpu_seconds": self.begin_cpu.elapsed() * 1e-3 - self.validating_cpu,
            "loss": epoch.loss,
            "ndcg": epoch.validation,
        }));
    }

    fn progress(&mut self, what: &str, _done: u64, _total: u64) {
        if what == "training" {
            self.wall_ms
                .push(self.started.elapsed().as_secs_f64() * 1e3);
            self.cpu_ms.push(self.clock.elapsed());
            (self.started, self.clock) = (Instant::now(), Clock::now());
        }
    }

    fn validate(&mut self, model: &dyn Model) -> Result<Option<f64>, FitError> {
        if self.log.validation.is_empty() {
            return Ok(None);
        }
        self.peak = self.peak.or_else(peak_kib);
        let (started, clock) = (Instant::now(), Clock::now());
        let [_, ndcg] = ranking::mean(model, &self.log.validation, self.log.n_items);
        self.validating += started.elapsed().as_secs_f64();
        self.validating_cpu += clock.elapsed() * 1e-3;
        (self.started, self.clock) = (Instant::now(), Clock::now());
        Ok(Some(ndcg))
    }
}
