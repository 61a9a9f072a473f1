//! What a step cost, as an artifact: table `measured`.

use std::fs;
use std::path::Path;

use stage::{Exit, Failure};
use tables::Measured;

use crate::plan::Step;
use crate::process::Ended;

/// Writes `measured.parquet` into a directory that is created.
///
/// # Errors
/// If it cannot be written.
pub fn write(directory: &Path, step: &Step, ended: &Ended, threads: usize) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(|error| {
        let message = format!("failed to create directory `{}`", directory.display());
        Failure::new(Exit::Environment, message).cause(error.to_string())
    })?;
    let row = Measured {
        node: step.name().to_owned(),
        stage: step.executable.description.name.clone(),
        label: step.element.label().to_string(),
        wall_ms: ended.wall_ms,
        cpu_ms: ended.cpu_ms,
        peak_bytes: ended.peak_bytes,
        threads: u32::try_from(threads).unwrap_or(u32::MAX),
        processor: processor(),
    };
    tables::write_all(directory, [row]).map_err(Failure::environment)?;
    Ok(())
}

/// Model of the processor, and how many of them this process may use.
pub fn processor() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("model name"))
            .and_then(|rest| rest.split_once(':'))
            .map(|(_, model)| model.trim().to_owned())
    });
    let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{model}, {} threads", processors())
}

/// Processors that this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
