//! One user a line: the user, then the items in time order, separated by spaces. No instants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use seed::Seed;
use serde::{Deserialize, Serialize};
use tables::{Event, Interaction, Item, Reject, SampleId, User};

use crate::dataset::{
    Dataset, DatasetError, FileSummary, Parameter, ParameterError, Raw, Sink, Source, Summary,
    Takes,
};
use crate::fields::{MAX_ID_BYTES, excerpt};
use crate::raw::{RawError, RawErrorKind, RawFile, without_terminator};

#[cfg(test)]
mod tests;

/// Longest line, in bytes: a few million events of one user.
const MAX_LINE_BYTES: usize = 1 << 26;

/// Lines between two reports of progress.
const REPORT_EVERY: u64 = 1 << 10;

/// Parameters as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Parameters {
    event: Event,
    stem: Option<String>,
    item_attributes: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            event: Event::Purchase,
            stem: None,
            item_attributes: false,
        }
    }
}

/// The source.
#[derive(Debug)]
pub(crate) struct Sequences {
    parameters: Parameters,
}

impl Source for Sequences {
    const NAME: &'static str = "sequences";
    const REVISION: u32 = 1;
    const DOC: &'static str = "One user a line, `user item item ...` in time order without instants; optional item attributes as JSON.";
    const TAKES: &'static [Takes] = &[Takes::File, Takes::Folder];
    const PARAMETERS: &'static [Parameter] = &[
        Parameter {
            name: "event",
            doc: "what an entry of the file is: `view`, `click`, `favorite`, `cart`, `purchase` or `rating`",
        },
        Parameter {
            name: "stem",
            doc: "with `folder`: reads `<stem>.txt`; null: the only `.txt` of the folder",
        },
        Parameter {
            name: "item_attributes",
            doc: "with `folder`: whether `<stem>_item2attributes.json` gives the items attributes",
        },
    ];
    type Parameters = Parameters;

    fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        let is_name = |stem: &str| {
            !stem.is_empty() && !stem.contains(['/', '\\']) && stem != "." && stem != ".."
        };
        if let Some(stem) = parameters.stem.as_deref()
            && !is_name(stem)
        {
            return Err(ParameterError::Range {
                dataset: Self::NAME,
                name: "stem",
                found: format!("`{}`", excerpt(stem)),
                expected: "the name of a file in the folder, without `.txt`".to_owned(),
            });
        }
        if parameters.event == Event::Cancel {
            return Err(ParameterError::Range {
                dataset: Self::NAME,
                name: "event",
                found: "`cancel`".to_owned(),
                expected: "something that a user did with an item".to_owned(),
            });
        }
        Ok(Self { parameters })
    }
}

/// An attribute: a number in the files of S3-Rec, text elsewhere.
#[derive(Deserialize)]
#[serde(untagged)]
enum Attribute {
    Number(u64),
    Text(String),
}

/// Raw identities in shortlex order: by length, then by bytes.
type Shortlex<V> = BTreeMap<(usize, String), V>;

fn key(id: &str) -> (usize, String) {
    (id.len(), id.to_owned())
}

impl Dataset for Sequences {
    fn check(&self, takes: Option<Takes>) -> Result<(), ParameterError> {
        let needs_folder = [
            ("item_attributes", self.parameters.item_attributes),
            ("stem", self.parameters.stem.is_some()),
        ];
        for (name, is_set) in needs_folder {
            // A second file beside `file` would not enter the key of the artifact.
            if is_set && takes != Some(Takes::Folder) {
                return Err(ParameterError::Range {
                    dataset: Self::NAME,
                    name,
                    found: "given with `file`".to_owned(),
                    expected: "`folder` beside it".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn read(&self, raw: &Raw, _: Seed, sink: &mut dyn Sink) -> Result<Summary, DatasetError> {
        let (path, attributes) = self.paths(raw)?;
        let mut items: Shortlex<Vec<String>> = match attributes {
            Some(path) => read_attributes(&path)?,
            None => BTreeMap::new(),
        };
        let mut users: Shortlex<u64> = BTreeMap::new();
        let mut file = RawFile::open(&path)?;
        let mut summary = FileSummary {
            name: file.name().to_owned(),
            ..FileSummary::default()
        };
        let mut ordinal = 0;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let line = summary.n_records + 1;
            let Some(end) = file.line(line, MAX_LINE_BYTES, &mut bytes)? else {
                break;
            };
            if summary.n_records.is_multiple_of(REPORT_EVERY) {
                sink.progress(file.n_read(), file.n_bytes());
            }
            summary.n_records += 1;
            let content = without_terminator(&bytes);
            let text = std::str::from_utf8(content).map_err(|_| {
                file.error(
                    Some(line),
                    RawErrorKind::Encoding {
                        remedy: "save the file as UTF-8 text",
                    },
                )
            })?;
            match refusal(text, end.is_cut, &users) {
                None => {
                    let mut words = text.split_whitespace();
                    let user_id = words.next().unwrap_or_default();
                    users.insert(key(user_id), line);
                    for item_id in words {
                        let sample_id = SampleId::new(0, ordinal, 0)
                            .ok_or_else(|| file.error(Some(line), RawErrorKind::TooManyEvents))?;
                        ordinal += 1;
                        items.entry(key(item_id)).or_default();
                        sink.interaction(self.interaction(sample_id, line, user_id, item_id))?;
                    }
                }
                Some((class, reason, hint)) => {
                    summary.n_rejected += 1;
                    summary.first_reject.get_or_insert((line, reason.clone()));
                    sink.reject(
                        class,
                        Reject {
                            file: summary.name.clone(),
                            line,
                            reason,
                            hint: hint.to_owned(),
                            raw: content.to_vec(),
                        },
                    )?;
                }
            }
        }
        if summary.n_records == 0 {
            return Err(file.error(None, RawErrorKind::Empty).into());
        }
        sink.progress(file.n_bytes(), file.n_bytes());
        for ((_, item_id), attributes) in items {
            sink.item(Item {
                item_id,
                title: None,
                description: None,
                category: None,
                brand: None,
                price_e4: None,
                attributes,
            })?;
        }
        for (_, user_id) in users.into_keys() {
            sink.user(User {
                user_id,
                segment: None,
            })?;
        }
        Ok(Summary {
            files: vec![summary],
        })
    }
}

/// Class, reason and hint of a line that is refused.
fn refusal(
    text: &str,
    is_cut: bool,
    users: &Shortlex<u64>,
) -> Option<(&'static str, String, &'static str)> {
    if is_cut {
        return Some((
            "record too long",
            format!("the line has more than {MAX_LINE_BYTES} bytes"),
            "check the line ends of the file",
        ));
    }
    let mut words = text.split_whitespace();
    let Some(user_id) = words.next() else {
        return Some((
            "missing value",
            "the line is empty".to_owned(),
            "write a user and at least one item on each line",
        ));
    };
    if let Some(long) = text.split_whitespace().find(|id| id.len() > MAX_ID_BYTES) {
        return Some((
            "identity too long",
            format!(
                "an identity has {} bytes, at most {MAX_ID_BYTES} are read",
                long.len()
            ),
            "separate user and items by spaces",
        ));
    }
    if words.next().is_none() {
        return Some((
            "missing value",
            format!("user `{}` has no item", excerpt(user_id)),
            "write a user and at least one item on each line",
        ));
    }
    users.get(&key(user_id)).map(|line| {
        (
            "repeated user",
            format!("user `{}` is already on line {line}", excerpt(user_id)),
            "write all items of a user on one line, in time order",
        )
    })
}

fn read_attributes(path: &Path) -> Result<Shortlex<Vec<String>>, RawError> {
    let attributes: BTreeMap<String, Vec<Attribute>> = RawFile::open(path)?.json()?;
    let token = |attribute| match attribute {
        Attribute::Number(number) => format!("a{number}"),
        Attribute::Text(text) => format!("a{text}"),
    };
    Ok(attributes
        .into_iter()
        .map(|(item, attributes)| (key(&item), attributes.into_iter().map(token).collect()))
        .collect())
}

impl Sequences {
    fn interaction(&self, id: SampleId, line: u64, user_id: &str, item_id: &str) -> Interaction {
        Interaction {
            sample_id: id.0,
            line,
            user_id: Some(user_id.to_owned()),
            item_id: item_id.to_owned(),
            event: self.parameters.event,
            occurred_at: None,
            value: None,
            price_e4: None,
            session_id: None,
            query_id: None,
            shown_rank: None,
        }
    }

    /// The text, and the attributes where they are wanted.
    fn paths(&self, raw: &Raw) -> Result<(PathBuf, Option<PathBuf>), RawError> {
        let Some(folder) = &raw.folder else {
            // `ingest` has checked that one is named; an empty path is reported as missing.
            return Ok((raw.file.clone().unwrap_or_default(), None));
        };
        let stem = match &self.parameters.stem {
            Some(stem) => stem.clone(),
            None => only_text(folder)?,
        };
        let attributes = self
            .parameters
            .item_attributes
            .then(|| folder.join(format!("{stem}_item2attributes.json")));
        Ok((folder.join(format!("{stem}.txt")), attributes))
    }
}

/// The stem of the only `.txt` of a folder.
fn only_text(folder: &Path) -> Result<String, RawError> {
    let failed = |kind| RawError {
        path: folder.to_owned(),
        line: None,
        kind,
    };
    let entries = std::fs::read_dir(folder).map_err(|error| {
        failed(match error.kind() {
            std::io::ErrorKind::NotFound => RawErrorKind::Missing,
            _ => RawErrorKind::Io(error),
        })
    })?;
    let mut stems = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(error.into()))?.path();
        if path.extension().is_some_and(|extension| extension == "txt")
            && let Some(stem) = path.file_stem()
        {
            stems.push(stem.to_string_lossy().into_owned());
        }
    }
    stems.sort();
    if stems.len() == 1 {
        return Ok(stems.remove(0));
    }
    Err(failed(RawErrorKind::Ambiguous { stems }))
}
