//! Turns results into what people read: one self-contained HTML page, and tables as Markdown and CSV.
//!
//! The page leads with the answer (which method found the planted noise, what acting on it changed,
//! what it cost) and then shows what the answer rests on. Measured costs appear on the page alone:
//! the folder of tables is a result, and equal inputs give equal bytes.

mod chart;
mod evidence;
mod format;
mod html;
mod measure;
mod page;
mod protocol;
mod results;
mod section;
mod table;
mod view;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stage::{Description, Failure, Field, FieldKind, Input, Io, Offers, Output, PROTOCOL, Stage};

use crate::evidence::{Evidence, ROLES};
use crate::table::{ResultTable, markdown_text};

/// What people can choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Title of the page.
    #[serde(default = "default_title")]
    pub title: String,
    /// Where the data comes from, in one line below the title.
    #[serde(default)]
    pub source: String,
    /// Figures that others published on this data under this protocol.
    #[serde(default)]
    pub published: Vec<Published>,
}

/// A figure that others published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Model, as the axis `model` names it.
    pub model: String,
    /// Metric with its cut-off, such as `ndcg@10`.
    pub metric: String,
    /// Which items were ranked.
    #[serde(default)]
    pub candidates: Candidates,
    /// The figure.
    pub value: f64,
    /// Lowest figure of ours that is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Highest figure of ours that is accepted. Without both, four decimals must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Where it was published.
    #[serde(default)]
    pub source: String,
}

/// Which items a published figure ranks. Both are in the predictions of one model that was trained
/// with `seen: keep`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Candidates {
    /// All that `train` was told to rank.
    #[default]
    All,
    /// Those outside the history of the request.
    New,
}

impl Candidates {
    /// The segment of `metrics` in which its figures stand.
    pub(crate) const fn segment(self) -> &'static str {
        match self {
            Self::All => view::ALL,
            Self::New => view::NEW,
        }
    }
}

fn default_title() -> String {
    "Which training samples help".to_owned()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            title: default_title(),
            source: String::new(),
            published: Vec::new(),
        }
    }
}

/// The stage.
pub struct Report;

impl Stage for Report {
    type Config = Config;

    fn description() -> Description {
        const WHAT: [&str; 16] = [
            "Figures with intervals and protocols.",
            "Sentences that hold.",
            "Figures of single requests.",
            "Measured costs; on the page alone.",
            "Cleaning steps.",
            "Figures of the split data.",
            "Scores and cards of the methods.",
            "Epochs of the models.",
            "Refused records.",
            "How fast models answer; on the page alone.",
            "Tiers of the samples.",
            "Scores of groups of samples.",
            "Samples that matter most to single requests.",
            "Settings of methods that were tried.",
            "Importance of features.",
            "What acting multiplied features with.",
        ];
        const KINDS: [&[&str]; 16] = [
            &["metrics"],
            &["conclusions"],
            &["per_request"],
            &["costs"],
            &["audit"],
            &["profile"],
            &["scores"],
            &["training"],
            &["rejects"],
            &["latency"],
            &["tiers"],
            &["groups"],
            &["influences"],
            &["sensitivity"],
            &["feature_importance"],
            &["feature_weights"],
        ];
        let inputs = ROLES.into_iter().zip(KINDS).zip(WHAT);
        Description {
            protocol: PROTOCOL,
            name: "report",
            revision: 1,
            doc: "Turns results into one self-contained HTML page, and tables as Markdown and CSV.",
            uses_seed: false,
            is_resumable: false,
            uses_floats: false,
            inputs: inputs
                .map(|((role, kinds), doc)| {
                    Input::required(role, kinds, doc)
                        .optional()
                        .many()
                        .naming_absent()
                })
                .collect(),
            outputs: vec![
                Output::new(
                    "tables",
                    "Every result table as Markdown and CSV; no measured costs.",
                ),
                Output::new("html", "The page: `index.html`.").measured(),
            ],
            config: vec![
                Field {
                    name: "title",
                    kind: FieldKind::String,
                    default: Some("Which training samples help"),
                    doc: "Title of the page.",
                },
                Field {
                    name: "source",
                    kind: FieldKind::String,
                    default: Some("\"\""),
                    doc: "Where the data comes from, in one line below the title.",
                },
                Field {
                    name: "published",
                    kind: FieldKind::List,
                    default: Some("[]"),
                    doc: "Figures of others to stand beside: `model`, `metric` such as `ndcg@10`, `value`, \
                          where not to four decimals `low` and `high`; `candidates`: `all` or `new` \
                          (outside the history); `source`.",
                },
            ],
            registries: BTreeMap::new(),
        }
    }

    fn check(config: &Config, _offers: &Offers) -> Result<Offers, Failure> {
        for published in &config.published {
            let ends = [Some(published.value), published.low, published.high];
            if ends
                .into_iter()
                .flatten()
                .any(|end| !(0.0..=1.0).contains(&end))
            {
                return Err(Failure::new(
                    stage::Exit::Configuration,
                    format!(
                        "the published {} of `{}` or its band is no number from 0 to 1",
                        published.metric, published.model
                    ),
                ));
            }
        }
        Ok(Self::description().offers())
    }

    fn run(config: &Config, io: &Io) -> Result<(), Failure> {
        let evidence = Evidence::read(io)?;
        let sections = section::sections(&evidence, &config.published);
        let tables: Vec<&ResultTable> = sections
            .iter()
            .flat_map(|section| &section.tables)
            .collect();
        write_tables(&io.output("tables")?, config, &tables)?;
        let page = page::page(config, &sections);
        write_file(&io.output("html")?, "index.html", &page)
    }
}

fn write_tables(directory: &Path, config: &Config, tables: &[&ResultTable]) -> Result<(), Failure> {
    let mut index = format!("# {}\n\n", markdown_text(&config.title));
    if !config.source.is_empty() {
        index.push_str(&markdown_text(&config.source));
        index.push_str("\n\n");
    }
    for table in tables {
        write_file(directory, &format!("{}.md", table.name), &table.markdown())?;
        write_file(directory, &format!("{}.csv", table.name), &table.csv())?;
        let _ = writeln!(
            index,
            "- {}: [Markdown]({name}.md), [CSV]({name}.csv), {}",
            markdown_text(&table.title),
            format::counted(table.rows.len() as u64, "row", "rows"),
            name = table.name,
        );
    }
    write_file(directory, "index.md", &index)
}

/// A file of the report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write `{}`", path.display())]
struct WriteError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

fn write_file(directory: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = directory.join(name);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
        file.flush()
    };
    write().map_err(|source| Failure::environment(WriteError { path, source }))
}
