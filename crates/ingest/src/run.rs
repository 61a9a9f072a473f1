//! Reading a data set, and what to tell people when that is impossible.

use datasets::{DatasetError, FileSummary, Raw, RawError, RawErrorKind};
use stage::{Exit, Failure, Io, Seed};

use crate::config::{Config, prepare};
use crate::provenance;
use crate::writers::{Writers, Written, write_audit};

pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    let prepared = prepare(config)?;
    let resolve = |path: &Option<String>| path.as_ref().map(|path| io.data_root().join(path));
    let raw = Raw {
        file: resolve(&config.file),
        folder: resolve(&config.folder),
    };
    let mut writers = Writers::create(io)?;
    let seed = Seed::root(config.seed).child("ingest");
    let summary = prepared
        .dataset
        .read(&raw, seed, &mut writers)
        .map_err(|error| failure(error, config, io))?;
    let written = writers.finish().map_err(Failure::data)?;
    for file in &summary.files {
        refuse_mostly_bad(file)?;
    }
    write_audit(io, summary.n_records(), &written)?;
    tell(io, prepared.entry.name, summary.n_records(), &written);
    Ok(())
}

/// A file most of whose records are bad is another file than the configuration says.
fn refuse_mostly_bad(file: &FileSummary) -> Result<(), Failure> {
    if file.n_rejected * 2 <= file.n_records {
        return Ok(());
    }
    let failure = Failure::new(
        Exit::Data,
        format!(
            "{} of {} records of `{}` were refused",
            file.n_rejected, file.n_records, file.name
        ),
    );
    let failure = match &file.first_reject {
        Some((line, reason)) => failure.cause(format!("the first at line {line}: {reason}")),
        None => failure,
    };
    Err(failure.hint("check that `dataset` and its parameters fit the file"))
}

fn failure(error: DatasetError, config: &Config, io: &Io) -> Failure {
    let error = match error {
        DatasetError::Write(error) => return Failure::data(error),
        DatasetError::Raw(error) => error,
    };
    let hints = hints(&error, config, io);
    let mut failure = Failure::data(error);
    failure.hints = hints;
    failure
}

fn hints(error: &RawError, config: &Config, io: &Io) -> Vec<String> {
    let mut hints = vec![error.kind.hint()];
    let is_about_the_copy = matches!(
        error.kind,
        RawErrorKind::Missing
            | RawErrorKind::Gzip(_)
            | RawErrorKind::Empty
            | RawErrorKind::Header { .. }
    );
    if !is_about_the_copy {
        return hints;
    }
    let name = error
        .path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let path = config.file.as_ref().or(config.folder.as_ref());
    let path = path.map_or("", String::as_str);
    if let Some((entry, provenance)) = provenance::find(&config.dataset.name, path) {
        let known = provenance::file(&provenance, &name).map(|file| {
            let (path, bytes, sha256) = (&file.path, file.bytes, &file.sha256);
            format!("; `{path}` has {bytes} bytes, SHA-256 {sha256}")
        });
        hints.push(format!(
            "entry `{entry}` of `data/SOURCES.yaml`: official page {}{}",
            provenance.page,
            known.unwrap_or_default()
        ));
    }
    if matches!(error.kind, RawErrorKind::Missing) {
        hints.push(format!(
            "the data root is `{}`; name another with `--data DIR`",
            io.data_root().display()
        ));
    }
    hints
}

fn tell(io: &Io, name: &str, n_records: u64, written: &Written) {
    let n_rejected: u64 = written.rejected.values().sum();
    io.note(&format!(
        "{name}: {n_records} records, {n_rejected} refused; {} events, {} items, {} users, {} queries, {} judgments",
        written.interactions,
        written.items,
        written.users,
        written.queries,
        written.judgments,
    ));
    for (class, n) in &written.rejected {
        io.note(&format!("  refused: {n} {class}; see `rejects`"));
    }
}
