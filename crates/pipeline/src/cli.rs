//! The command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use stage::{Exit, Failure, suggest};

use crate::console::{line, note};
use crate::executable::Stages;
use crate::fingerprint::Fingerprints;
use crate::grammar::Pipeline;
use crate::plan::Plan;
use crate::process::{self, Groups};
use crate::resolve::Resolver;
use crate::run::{Options, Verdict, run};
use crate::why::Oracle;
use crate::{list, opening, show};

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
    /// Show an artifact: its files, schemas with meaning, first rows.
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
            };
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
        Command::Show {
            artifact,
            pipeline,
            places,
            rows,
        } => {
            let store = opening::store(&places.store)?;
            if let Some(id) = show::by_id(&store, &artifact)? {
                show::show(&store, id, rows)?;
                return Ok(ExitCode::SUCCESS);
            }
            let pipeline = match pipeline {
                Some(pipeline) => pipeline,
                None => show::latest_file(&store).ok_or_else(|| unknown_artifact(&artifact))?,
            };
            let file = File { pipeline, places };
            file.with(|resolver, plan| {
                for id in show::by_name(&Oracle::new(plan, resolver)?, plan, &artifact)? {
                    show::show(&store, id, rows)?;
                }
                Ok(ExitCode::SUCCESS)
            })
        }
    }
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
