//! What `show` prints of an artifact.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use artifact::{ArtifactId, OpenError, Store};
use serde_json::Value as Json;
use stage::{Exit, Failure, suggest};
use tables::{TABLES, Table};

use crate::console::{bytes, count, line};
use crate::description::MEASURED;
use crate::grammar::Reference;
use crate::plan::Plan;
use crate::run::shown;
use crate::statistics::Statistics;
use crate::why::Oracle;

/// Widest cell, in characters.
const MAX_CELL: usize = 40;
/// Longest JSON or text that is printed.
const MAX_TEXT: u64 = 20_000;

/// The artifact that a text names by its id; `None` if it does not look like one or fits none.
///
/// # Errors
/// If several artifacts fit.
pub fn by_id(store: &Store, text: &str) -> Result<Option<ArtifactId>, Failure> {
    let prefix = text.rsplit_once('@').map_or(text, |(_, prefix)| prefix);
    if prefix.len() < 4 || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let found = store.find(text).map_err(Failure::environment)?;
    match found.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some(*id)),
        several => {
            let ids: Vec<String> = several
                .iter()
                .map(|id| id.to_string()[..16].to_owned())
                .collect();
            Err(Failure::new(
                Exit::Configuration,
                format!("`{text}` fits {} artifacts", several.len()),
            )
            .hint(format!("give more digits: `{}`", ids.join("`, `"))))
        }
    }
}

/// The file of the pipeline that was run last.
pub fn latest_file(store: &Store) -> Option<String> {
    let folders = fs::read_dir(store.root().join("runs")).ok()?;
    let latest: Option<PathBuf> = folders
        .flatten()
        .filter_map(|folder| {
            let name = folder.file_name().into_string().ok()?;
            store.runs(&name).ok()?.pop()
        })
        .max_by_key(|path| path.file_name().map(std::ffi::OsStr::to_owned));
    let run = store.read_run(&latest?).ok()?;
    run["file"].as_str().map(str::to_owned)
}

/// The artifacts that a node's name means: one output, or all of them.
///
/// # Errors
/// If there is no such node or output, or it was not made yet.
pub fn by_name(oracle: &Oracle<'_>, plan: &Plan, text: &str) -> Result<Vec<ArtifactId>, Failure> {
    let reference =
        Reference::parse(text).map_err(|message| Failure::new(Exit::Configuration, message))?;
    let element = Reference {
        output: None,
        ..reference.clone()
    };
    let mut ids = Vec::new();
    for index in plan.find(&element.to_string())? {
        let step = &plan.steps[index];
        if step.not_applicable().is_some() {
            continue;
        }
        let Some(outputs) = &oracle.done()[index] else {
            return Err(Failure::new(
                Exit::Configuration,
                format!("`{}` is not up to date", step.name()),
            )
            .hint(format!(
                "run it first: `touchstone run {} --only '{}'`",
                plan.pipeline.origin,
                step.name()
            )));
        };
        match &reference.output {
            Some(output) => {
                let produced = outputs.produced.get(output).ok_or_else(|| {
                    Failure::new(
                        Exit::Configuration,
                        format!("`{}` does not give `{output}`", step.name()),
                    )
                    .hint(suggest(output, outputs.produced.keys().map(String::as_str)))
                })?;
                ids.push(produced.id);
            }
            None => ids.extend(
                outputs
                    .produced
                    .iter()
                    .filter(|(role, _)| *role != MEASURED)
                    .map(|(_, produced)| produced.id),
            ),
        }
    }
    Ok(ids)
}

/// Prints one artifact.
///
/// # Errors
/// If it is damaged or cannot be read.
pub fn show(store: &Store, id: ArtifactId, n_rows: usize) -> Result<(), Failure> {
    let directory = store.open_verified(id).map_err(|error| match &error {
        OpenError::Quarantined { .. } | OpenError::Missing { .. } => {
            Failure::data(error).hint("run the pipeline again: what made it is run once more")
        }
        OpenError::File(_) => Failure::environment(error),
    })?;
    let manifest = store.manifest(id).map_err(Failure::data)?;
    line(format_args!(
        "{}@{}  {} in {}\nid    {id}\nat    {}",
        manifest.kind(),
        id.short(),
        bytes(manifest.length()),
        count(manifest.files().len(), "file"),
        shown(&directory)
    ));
    for (record, role) in store.producers(id).map_err(Failure::environment)? {
        line(format_args!(
            "by    stage {}, output {role}, key {}",
            record.key.stage,
            record.id.short()
        ));
    }
    for file in manifest.files() {
        line(format_args!("\n{}  {}", file.path, bytes(file.length)));
        let path = directory.join(&file.path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let table = name
            .strip_suffix(".parquet")
            .and_then(|name| TABLES.iter().find(|table| table.name == name));
        if let (Some(table), Some(folder)) = (table, path.parent()) {
            show_table(folder, table, n_rows)?;
        } else if name.ends_with(".safetensors") {
            show_tensors(&path)?;
        } else if file.length <= MAX_TEXT && is_text(&name) {
            show_text(&path)?;
        }
    }
    line("");
    Ok(())
}

fn is_text(name: &str) -> bool {
    [".json", ".md", ".csv", ".txt", ".yaml"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

fn show_text(path: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(path).map_err(Failure::data)?;
    let text = match serde_json::from_str::<Json>(&text) {
        Ok(json) if path.extension().is_some_and(|ending| ending == "json") => format!("{json:#}"),
        _ => text,
    };
    for one in text.lines() {
        line(format_args!("  {one}"));
    }
    Ok(())
}

fn show_table(folder: &Path, table: &'static Table, n_rows: usize) -> Result<(), Failure> {
    let batches = tables::batches(folder, table).map_err(Failure::data)?;
    for text in table.doc.trim().lines() {
        line(format_args!("  {}", text.trim()));
    }
    let n = usize::try_from(batches.n_rows()).unwrap_or(usize::MAX);
    line(format_args!("  {}\n", count(n, "row")));
    let mut statistics: Vec<Statistics> = table.columns.iter().map(|_| Statistics::new()).collect();
    let mut first = None;
    for batch in batches {
        let batch = batch.map_err(Failure::data)?;
        for (column, statistics) in statistics.iter_mut().enumerate() {
            statistics.add(&batch, column).map_err(Failure::data)?;
        }
        first.get_or_insert(batch);
    }
    let width = table.columns.iter().map(|column| column.name.len()).max();
    let width = width.unwrap_or(0);
    for (column, statistics) in table.columns.iter().zip(&statistics) {
        let data_type = type_name(&(column.data_type)());
        let nullable = if column.is_nullable { "?" } else { "" };
        line(format_args!(
            "  {:<width$}  {:<12}  {}",
            column.name,
            format!("{data_type}{nullable}"),
            column.doc.trim()
        ));
        let words = statistics.words();
        if !words.is_empty() {
            line(format_args!("  {:<width$}  {:<12}  {words}", "", ""));
        }
    }
    let Some(batch) = first else {
        return Ok(());
    };
    let rows = rows_of(&batch, n_rows).map_err(Failure::data)?;
    if !rows.is_empty() {
        line("");
        let header: Vec<String> = table
            .columns
            .iter()
            .map(|column| column.name.to_owned())
            .collect();
        let numeric: Vec<bool> = batch
            .columns()
            .iter()
            .map(|column| column.data_type().is_numeric())
            .collect();
        for text in aligned(&header, &rows, &numeric) {
            line(format_args!("  {text}"));
        }
    }
    Ok(())
}

/// Types as people say them.
fn type_name(data_type: &arrow::datatypes::DataType) -> String {
    use arrow::datatypes::DataType as Type;
    match data_type {
        Type::UInt32 => "u32".to_owned(),
        Type::UInt64 => "u64".to_owned(),
        Type::Int64 => "i64".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::Utf8 => "text".to_owned(),
        Type::Binary => "bytes".to_owned(),
        Type::Boolean => "bool".to_owned(),
        Type::Dictionary(..) => "word".to_owned(),
        Type::Timestamp(..) => "instant UTC".to_owned(),
        Type::List(element) => format!("[{}]", type_name(element.data_type())),
        other => other.to_string(),
    }
}

fn rows_of(batch: &RecordBatch, n: usize) -> Result<Vec<Vec<String>>, arrow::error::ArrowError> {
    let options = FormatOptions::default().with_null("·");
    let columns: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<_, _>>()?;
    (0..batch.num_rows().min(n))
        .map(|row| {
            columns
                .iter()
                .map(|column| Ok(shortened(&column.value(row).try_to_string()?)))
                .collect()
        })
        .collect()
}

/// One line of at most [`MAX_CELL`] characters.
fn shortened(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().count() <= MAX_CELL {
        return text;
    }
    let kept: String = text.chars().take(MAX_CELL - 1).collect();
    format!("{kept}…")
}

/// Columns a terminal gives a text: wide characters take two.
fn columns_of(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff
            | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}

/// Lines of an aligned table: numbers to the right, all else to the left.
fn aligned(header: &[String], rows: &[Vec<String>], numeric: &[bool]) -> Vec<String> {
    let widths: Vec<usize> = (0..header.len())
        .map(|at| {
            let cells = rows.iter().map(|row| columns_of(&row[at]));
            cells.chain([columns_of(&header[at])]).max().unwrap_or(0)
        })
        .collect();
    let join = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(at, cell)| {
                let space = " ".repeat(widths[at] - columns_of(cell));
                if numeric[at] {
                    format!("{space}{cell}")
                } else {
                    format!("{cell}{space}")
                }
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    std::iter::once(join(header))
        .chain(rows.iter().map(|row| join(row)))
        .collect()
}

/// Names, types and shapes from the header of a safetensors file.
fn show_tensors(path: &Path) -> Result<(), Failure> {
    /// The format's own bound on its header.
    const MAX_HEADER: u64 = 100_000_000;
    let read = || -> std::io::Result<Json> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER.min(file.metadata()?.len()) {
            return Err(std::io::Error::other("the header is longer than the file"));
        }
        let mut header = String::new();
        file.take(length).read_to_string(&mut header)?;
        Ok(serde_json::from_str(&header)?)
    };
    let header = read().map_err(|error| {
        Failure::data(error).cause(format!("reading tensors of `{}`", path.display()))
    })?;
    let tensors = header.as_object().cloned().unwrap_or_default();
    let mut rows: Vec<Vec<String>> = tensors
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, tensor)| {
            let dtype = tensor["dtype"].as_str().unwrap_or("?").to_owned();
            vec![name.clone(), dtype, tensor["shape"].to_string()]
        })
        .collect();
    rows.sort();
    let header = ["tensor", "type", "shape"].map(str::to_owned);
    for text in aligned(&header, &rows, &[false; 3]) {
        line(format_args!("  {text}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_by_columns_of_the_terminal() {
        let header = ["title".to_owned(), "n".to_owned()];
        let rows = [
            vec!["茶杯".to_owned(), "7".to_owned()],
            vec!["cup".to_owned(), "12".to_owned()],
        ];
        assert_eq!(
            aligned(&header, &rows, &[false, true]),
            ["title   n", "茶杯    7", "cup    12"]
        );
    }

    #[test]
    fn long_cells_are_cut() {
        let cell = shortened(&"ab\n".repeat(40));
        assert_eq!(cell.chars().count(), MAX_CELL);
        assert!(cell.starts_with("ab ab") && cell.ends_with('…'));
    }
}
