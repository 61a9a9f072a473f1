//! The command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use artifact::{ArtifactId, Store};
use clap::{Args, CommandFactory, Parser, Subcommand};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use stage::{Exit, Failure, suggest};

use crate::console::{line, note};
use crate::executable::Stages;
use crate::fingerprint::Fingerprints;
use crate::grammar::Pipeline;
use crate::limits::parse_memory;
use crate::lineage::Lineage;
use crate::plan::Plan;
use crate::process::{self, Groups};
use crate::resolve::Resolver;
use crate::run::{Options, Verdict, run};
use crate::why::Oracle;
use crate::{diff, editor, gc, graph, list, opening, show, verify};

/// Touchstone (试金石): which training samples make a ranking better, and which make it worse.
#[derive(Parser)]
#[command(name = "touchstone", version, about, infer_subcommands = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Expand and check a pipeline; list its nodes, what they read, and what is not applicable.
    Plan {
        #[command(flatten)]
        file: File,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run what is not up to date.
    Run {
        #[command(flatten)]
        file: File,
        /// Run only this node and what it reads; repeat it for several.
        #[arg(long, value_name = "NODE")]
        only: Vec<String>,
        /// Run this node and all that reads it again, even if nothing changed; repeat it for several.
        #[arg(long, value_name = "NODE")]
        from: Vec<String>,
        /// Nodes that run at once [default: number of processors].
        #[arg(short, long, value_name = "N")]
        jobs: Option<usize>,
        /// Threads of each stage; never changes results [default: the processors, shared].
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        /// Memory that nodes which run at once may need together, as their `memory` says
        /// [default: that of the machine].
        #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
        memory: Option<u64>,
        /// After a failure, go on with all that does not depend on it.
        #[arg(long)]
        keep_going: bool,
    },
    /// Say why a node would run: the parameter, input, file or executable that changed.
    Why {
        /// A node, or one element of it such as `score[random]`.
        node: String,
        #[command(flatten)]
        file: File,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say of every node whether it is up to date.
    Status {
        #[command(flatten)]
        file: File,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read every stored byte again; put aside what is damaged.
    Verify {
        /// Ids, or starts of ids [default: all artifacts and records].
        #[arg(value_name = "ARTIFACT")]
        artifacts: Vec<String>,
        /// Instead, run this node again on another number of threads and compare what it gives.
        #[arg(
            long,
            value_name = "NODE",
            requires = "pipeline",
            conflicts_with = "artifacts"
        )]
        rerun: Option<String>,
        /// The pipeline of the node that is run again.
        #[arg(long, value_name = "PIPELINE")]
        pipeline: Option<String>,
        #[command(flatten)]
        places: Places,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove what none of the last runs needs; without `--delete`, only say what that is.
    Gc {
        /// Runs of each node whose results are kept.
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        keep_runs: u32,
        /// Remove it.
        #[arg(long)]
        delete: bool,
        #[command(flatten)]
        places: Places,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what an artifact was made of, back to raw files.
    Lineage {
        /// An id or the start of one, or a node's output such as `report.tables`.
        artifact: String,
        /// The pipeline that a node's name belongs to [default: the latest that was run].
        pipeline: Option<String>,
        /// Of what was gathered, follow only what this value of an axis names, as a row of a report
        /// does: `--of markov`; repeat it for several.
        #[arg(long, value_name = "VALUE")]
        of: Vec<String>,
        #[command(flatten)]
        places: Places,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say how two runs of a pipeline differ: parameters, artifacts, figures.
    Diff {
        /// Name of the pipeline.
        pipeline: String,
        /// A run: the start of its instant, `latest`, `latest~1`, or its file.
        #[arg(default_value = "latest~1")]
        old: String,
        /// The run to compare with it.
        #[arg(default_value = "latest")]
        new: String,
        #[command(flatten)]
        places: Places,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Draw a pipeline.
    Graph {
        #[command(flatten)]
        file: File,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: graph::Format,
    },
    /// Print a JSON Schema of pipeline files, for editors.
    Schema {
        #[command(flatten)]
        places: Places,
    },
    /// Print a script that completes this command line in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Show an artifact: its files, schemas with meaning, statistics, first rows.
    Show {
        /// An id or the start of one, `samples@3fa91c2d`, or a node's output such as `split.samples`.
        artifact: String,
        /// The pipeline that a node's name belongs to [default: the latest that was run].
        pipeline: Option<String>,
        #[command(flatten)]
        places: Places,
        /// Rows of each table.
        #[arg(long, value_name = "N", default_value_t = 5)]
        rows: usize,
    },
}

/// A pipeline and where things lie.
#[derive(Args)]
struct File {
    /// A pipeline file, or a name: `quick` is `pipelines/quick.yaml`.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    #[command(flatten)]
    places: Places,
}

/// Where things lie.
#[derive(Args)]
struct Places {
    /// Where raw files lie.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Where artifacts lie.
    #[arg(long, value_name = "DIR", default_value = "artifacts")]
    store: PathBuf,
    /// Hash executables and raw files again, whatever the file system says of them.
    #[arg(long)]
    paranoid: bool,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == process::EXEC => {
            let rest: Vec<_> = words.collect();
            let error = process::become_stage(&rest);
            note(format_args!("error: failed to start the stage: {error}"));
            return Exit::Environment.into();
        }
        Some(word) if word == process::WATCH => {
            process::watch();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match obey(arguments.command) {
        Ok(code) => code,
        Err(failure) => {
            note(&failure);
            failure.exit.into()
        }
    }
}

fn obey(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Plan { file, json } => file.with(|resolver, plan| {
            list::plan(plan, resolver, json)?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Run {
            file,
            only,
            from,
            jobs,
            threads,
            memory,
            keep_going,
        } => file.with(|resolver, plan| {
            let find = |names: &[String]| {
                let mut found = std::collections::BTreeSet::new();
                for name in names {
                    found.extend(plan.find(name)?);
                }
                Ok::<_, Failure>(found)
            };
            let options = Options {
                only: if only.is_empty() {
                    None
                } else {
                    Some(find(&only)?)
                },
                from: find(&from)?,
                jobs,
                threads,
                memory,
                is_going_on: keep_going,
            };
            // Nobody removes from a store that is in use.
            let _hold = resolver.store.hold().map_err(Failure::environment)?;
            run_until_signal(plan, resolver, &options)
        }),
        Command::Why { node, file, json } => file.with(|resolver, plan| {
            let steps = plan.find(&node)?;
            list::why(&Oracle::new(plan, resolver)?, &steps, json);
            Ok(ExitCode::SUCCESS)
        }),
        Command::Status { file, json } => file.with(|resolver, plan| {
            list::status(plan, &Oracle::new(plan, resolver)?, json);
            Ok(ExitCode::SUCCESS)
        }),
        Command::Graph { file, format } => file.with(|_, plan| {
            line(graph::draw(plan, format).trim_end());
            Ok(ExitCode::SUCCESS)
        }),
        other => obey_about_store(other),
    }
}

/// Commands that need no pipeline, or look for one by themselves.
fn obey_about_store(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Verify {
            artifacts,
            rerun,
            pipeline,
            places,
            json,
        } => {
            if let (Some(node), Some(pipeline)) = (rerun, pipeline) {
                let file = File { pipeline, places };
                return file.with(|resolver, plan| {
                    let _hold = resolver.store.hold().map_err(Failure::environment)?;
                    let steps = plan.find(&node)?;
                    let groups = Groups::new().map_err(Failure::environment)?;
                    verify::rerun(plan, resolver, &steps, &groups)?;
                    Ok(ExitCode::SUCCESS)
                });
            }
            let store = opening::store(&places.store)?;
            let _hold = store.hold().map_err(Failure::environment)?;
            let mut ids = Vec::new();
            for text in &artifacts {
                ids.push(show::by_id(&store, text)?.ok_or_else(|| unknown_artifact(text))?);
            }
            verify::store(&store, &ids, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Gc {
            keep_runs,
            delete,
            places,
            json,
        } => {
            let store = opening::store(&places.store)?;
            let n_runs = usize::try_from(keep_runs).unwrap_or(usize::MAX);
            gc::collect(&store, n_runs, delete, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Lineage {
            artifact,
            pipeline,
            of,
            places,
            json,
        } => named(&artifact, pipeline, places, &mut |store, ids| {
            let lineage = Lineage::of(store)?;
            for &id in ids {
                if json {
                    print_json(&lineage.json(id, &of)?);
                } else {
                    lineage.print(id, &of)?;
                }
            }
            Ok(())
        }),
        Command::Diff {
            pipeline,
            old,
            new,
            places,
            json,
        } => {
            let store = opening::store(&places.store)?;
            let old = diff::find(&store, &pipeline, &old)?;
            let new = diff::find(&store, &pipeline, &new)?;
            diff::print(&store, &old, &new, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema { places } => {
            let store = opening::store(&places.store)?;
            let fingerprints = Fingerprints::open(&store, places.paranoid);
            let stages = Stages::new(&store, &fingerprints, Path::new("."))?;
            print_json(&editor::schema(&stages)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "touchstone", &mut script);
            line(String::from_utf8_lossy(&script).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Show {
            artifact,
            pipeline,
            places,
            rows,
        } => named(&artifact, pipeline, places, &mut |store, ids| {
            for &id in ids {
                show::show(store, id, rows)?;
            }
            Ok(())
        }),
        Command::Plan { .. }
        | Command::Run { .. }
        | Command::Why { .. }
        | Command::Status { .. }
        | Command::Graph { .. } => Err(Failure::new(Exit::Bug, "a command was lost")),
    }
}

/// What is done with artifacts that were found.
type Look<'a> = &'a mut dyn FnMut(&Store, &[ArtifactId]) -> Result<(), Failure>;

/// Hands over the artifacts that a text names: by their id, or by a node of a pipeline.
fn named(
    artifact: &str,
    pipeline: Option<String>,
    places: Places,
    then: Look<'_>,
) -> Result<ExitCode, Failure> {
    let store = opening::store(&places.store)?;
    if let Some(id) = show::by_id(&store, artifact)? {
        then(&store, &[id])?;
        return Ok(ExitCode::SUCCESS);
    }
    let pipeline = match pipeline {
        Some(pipeline) => pipeline,
        None => show::latest_file(&store).ok_or_else(|| unknown_artifact(artifact))?,
    };
    let file = File { pipeline, places };
    file.with(|resolver, plan| {
        let ids = show::by_name(&Oracle::new(plan, resolver)?, plan, artifact)?;
        then(resolver.store, &ids)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn unknown_artifact(text: &str) -> Failure {
    Failure::new(
        Exit::Configuration,
        format!("the store has no artifact `{text}`"),
    )
    .hint("name an id, or a node's output with its pipeline: `touchstone show split.samples quick`")
}

fn run_until_signal(
    plan: &Plan,
    resolver: &Resolver<'_>,
    options: &Options,
) -> Result<ExitCode, Failure> {
    let groups = Arc::new(Groups::new().map_err(Failure::environment)?);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Failure::environment)?;
    let handle = signals.handle();
    let listener = {
        let groups = Arc::clone(&groups);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if groups.interrupted().is_some() {
                    // Asked twice: whatever this process still does, it ends.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                groups.interrupt(signal);
            }
        })
    };
    let verdict = run(plan, resolver, options, &groups);
    handle.close();
    let _ = listener.join();
    Ok(match verdict? {
        Verdict::Done => ExitCode::SUCCESS,
        Verdict::Failed(failures) => {
            for failure in &failures {
                note(format_args!("\n{failure}"));
            }
            let exit = failures.first().map_or(Exit::Bug, |failure| failure.exit);
            exit.into()
        }
        Verdict::Interrupted(signal) => {
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    })
}

impl File {
    /// Opens everything that a command needs, plans, and hands it over.
    fn with<T>(
        &self,
        then: impl FnOnce(&Resolver<'_>, &Plan) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let path = self.path()?;
        let origin = path.display().to_string();
        let text = fs::read_to_string(&path)
            .map_err(|error| Failure::configuration(error).cause(format!("reading `{origin}`")))?;
        let pipeline = Pipeline::parse(&text, &origin)?;
        let store = opening::store(&self.places.store)?;
        let fingerprints = Fingerprints::open(&store, self.places.paranoid);
        let mut stages = Stages::new(&store, &fingerprints, Plan::folder_of(&path))?;
        let plan = Plan::new(pipeline, &mut stages);
        // What was hashed is remembered even if the plan is refused.
        fingerprints.save();
        let plan = plan?;
        let resolver = Resolver {
            store: &store,
            fingerprints: &fingerprints,
            data_root: self.places.data.clone(),
        };
        let result = then(&resolver, &plan);
        fingerprints.save();
        result
    }

    /// The file that is meant.
    fn path(&self) -> Result<PathBuf, Failure> {
        let written = Path::new(&self.pipeline);
        if written.is_file() {
            return Ok(written.to_owned());
        }
        let named = Path::new("pipelines").join(format!("{}.yaml", self.pipeline));
        if named.is_file() {
            return Ok(named);
        }
        let known: Vec<String> = fs::read_dir("pipelines")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some(name.strip_suffix(".yaml")?.to_owned())
            })
            .collect();
        let failure = Failure::new(
            Exit::Configuration,
            format!("there is no pipeline `{}`", self.pipeline),
        );
        Err(if known.is_empty() {
            failure.hint("give the path of a pipeline file")
        } else {
            let mut known = known;
            known.sort();
            failure.hint(suggest(&self.pipeline, known.iter().map(String::as_str)))
        })
    }
}

/// Prints JSON for other programs.
pub(crate) fn print_json(value: &serde_json::Value) {
    line(format_args!("{value:#}"));
}
