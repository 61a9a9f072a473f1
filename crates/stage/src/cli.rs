//! The command line that every stage executable shares: `describe`, `check`, `run`.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::describe::{Description, Offer, Offers};
use crate::failure::{Exit, Failure, suggest};
use crate::io::{Absent, Io, Label, Labelled};
use crate::yaml;

// Short-lived arrays otherwise spend their time in page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A stage: what it takes, what it gives, and how.
pub trait Stage {
    /// Its configuration: plain structs that deny unknown fields.
    type Config: DeserializeOwned + Serialize;

    /// Everything static about it.
    fn description() -> Description;

    /// Checks all that can be checked without data and says what the outputs offer.
    ///
    /// `offers` holds what the wired inputs offer, by role; it is empty when a person checks a
    /// configuration alone.
    ///
    /// # Errors
    /// If the configuration is wrong or cannot apply to what is wired.
    fn check(config: &Self::Config, offers: &Offers) -> Result<Offers, Failure>;

    /// Reads the inputs, writes every output.
    ///
    /// # Errors
    /// If an input is bad, the computation fails or an output cannot be written.
    fn run(config: &Self::Config, io: &Io) -> Result<(), Failure>;
}

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what this stage takes and gives, as JSON.
    Describe,
    /// Check a configuration without touching data; print the normalised form and what the outputs offer.
    Check {
        /// Configuration, YAML or JSON.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// What a wired input offers, as a JSON file; repeat it for several inputs.
        #[arg(long, value_name = "ROLE=FILE")]
        offers: Vec<String>,
    },
    /// Run the stage.
    Run {
        /// Configuration, YAML or JSON.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// An input; `ROLE[axis=value,...]=DIR` where a role takes several.
        #[arg(long = "in", value_name = "ROLE=DIR")]
        inputs: Vec<String>,
        /// An input that is not applicable, and why, for a role that wants to know.
        #[arg(long, value_name = "ROLE[axis=value,...]=WHY")]
        absent: Vec<String>,
        /// Where outputs go, one subdirectory each; must not hold any of them.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Where raw files lie.
        #[arg(long, value_name = "DIR", default_value = "data")]
        data: PathBuf,
        /// Where a long run keeps what it goes on from when it is killed: for one configuration
        /// and its inputs only.
        #[arg(long, value_name = "DIR")]
        resume: Option<PathBuf>,
        /// Threads; never changes results. 0: all processors.
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// No progress and no notes.
        #[arg(long)]
        quiet: bool,
    },
}

/// Runs the stage that the command line asks for.
pub fn main<S: Stage>() -> ExitCode {
    let description = S::description();
    let command = Arguments::command()
        .name(description.name)
        .about(description.doc);
    let arguments = match command
        .try_get_matches()
        .and_then(|matches| Arguments::from_arg_matches(&matches))
    {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| run::<S>(arguments, &description)));
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            if failure.not_applicable {
                print_json(&serde_json::json!({ "not_applicable": failure.message }));
            }
            crate::progress::line(&failure.to_string());
            failure.exit.into()
        }
        // The panic's message and place are on standard error.
        Err(_) => {
            crate::progress::line(
                "error: this is a bug in the stage; please report the lines above",
            );
            Exit::Bug.into()
        }
    }
}

fn run<S: Stage>(arguments: Arguments, description: &Description) -> Result<(), Failure> {
    match arguments.command {
        Command::Describe => {
            print_json(&serde_json::to_value(description).map_err(Failure::bug)?);
            Ok(())
        }
        Command::Check { config, offers } => {
            let config: S::Config = read_config(&config)?;
            let offers = read_offers(&offers)?;
            check_kinds(description, &offers)?;
            let given = S::check(&config, &offers)?;
            let config = serde_json::to_value(&config).map_err(Failure::bug)?;
            print_json(&serde_json::json!({ "config": config, "offers": given }));
            Ok(())
        }
        Command::Run {
            config,
            inputs,
            absent,
            out,
            data,
            resume,
            threads,
            quiet,
        } => {
            let config: S::Config = read_config(&config)?;
            let threads = if threads == 0 {
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
            } else {
                threads
            };
            // A second initialisation in one process is impossible here, and harmless.
            let _ = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global();
            let io = Io {
                inputs: read_inputs(description, &inputs)?,
                absent: read_absent(description, &absent)?,
                out,
                data_root: data,
                resume: resume_directory(description, resume)?,
                threads,
                is_quiet: quiet,
            };
            S::check(&config, &Offers::new())?;
            prepare_outputs(description, &io.out)?;
            S::run(&config, &io)
        }
    }
}

fn print_json(value: &serde_json::Value) {
    // Whoever reads it may have gone.
    let _ = writeln!(std::io::stdout().lock(), "{value:#}");
}

fn read_config<C: DeserializeOwned>(path: &Path) -> Result<C, Failure> {
    let text = read_text(path)?;
    yaml::parse(&text, &path.display().to_string())
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::new(
            Exit::Configuration,
            format!("failed to read `{}`", path.display()),
        )
        .cause(error.to_string())
    })
}

fn split_pair<'a>(text: &'a str, shape: &str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=')
        .filter(|(left, right)| !left.is_empty() && !right.is_empty())
        .ok_or_else(|| {
            Failure::new(
                Exit::Configuration,
                format!("`{text}` is not of the form {shape}"),
            )
        })
}

fn read_offers(pairs: &[String]) -> Result<Offers, Failure> {
    let mut offers = Offers::new();
    for pair in pairs {
        let (role, path) = split_pair(pair, "ROLE=FILE")?;
        let text = read_text(Path::new(path))?;
        let offer: Offer = serde_json::from_str(&text)
            .map_err(|error| Failure::configuration(error).cause(format!("offers in `{path}`")))?;
        offers.entry(role.to_owned()).or_default().push(offer);
    }
    Ok(offers)
}

/// Refuses artifacts of a kind that a role does not take: this is what keeps `planted` and `truth`
/// away from `train` and `estimate`.
fn check_kinds(description: &Description, offers: &Offers) -> Result<(), Failure> {
    for (role, given) in offers {
        let input = find_input(description, role)?;
        for offer in given {
            if !input.kinds.contains(&offer.kind.as_str()) {
                let known = input.kinds.join("`, `");
                return Err(Failure::new(
                    Exit::Configuration,
                    format!(
                        "input `{role}` of `{}` takes `{known}`, not `{}`",
                        description.name, offer.kind
                    ),
                )
                .hint(if matches!(offer.kind.as_str(), "planted" | "truth") {
                    "the truth about samples may be read by `evaluate` and `report` alone"
                } else {
                    "wire an output of the right kind"
                }));
            }
        }
    }
    Ok(())
}

fn find_input<'a>(
    description: &'a Description,
    role: &str,
) -> Result<&'a crate::describe::Input, Failure> {
    description
        .inputs
        .iter()
        .find(|input| input.role == role)
        .ok_or_else(|| {
            Failure::new(
                Exit::Configuration,
                format!("`{}` has no input `{role}`", description.name),
            )
            .hint(suggest(
                role,
                description.inputs.iter().map(|input| input.role),
            ))
        })
}

fn read_inputs(
    description: &Description,
    pairs: &[String],
) -> Result<BTreeMap<String, Vec<Labelled>>, Failure> {
    let mut inputs: BTreeMap<String, Vec<Labelled>> = BTreeMap::new();
    for pair in pairs {
        let (role, label, path) = split_input(pair)?;
        find_input(description, role)?;
        let path = PathBuf::from(path);
        if !path.is_dir() {
            return Err(Failure::new(
                Exit::Data,
                format!("input `{role}` is not a directory: `{}`", path.display()),
            ));
        }
        inputs
            .entry(role.to_owned())
            .or_default()
            .push(Labelled { label, path });
    }
    for input in &description.inputs {
        let n = inputs.get(input.role).map_or(0, Vec::len);
        if n == 0 && !input.is_optional {
            return Err(Failure::new(
                Exit::Configuration,
                format!("input `{}` is missing", input.role),
            )
            .hint(format!("give it with `--in {}=DIRECTORY`", input.role)));
        }
        if n > 1 && !input.is_many {
            return Err(Failure::new(
                Exit::Configuration,
                format!("input `{}` takes one artifact, {n} were given", input.role),
            ));
        }
    }
    for given in inputs.values_mut() {
        given.sort_by(|a, b| a.label.cmp(&b.label).then_with(|| a.path.cmp(&b.path)));
    }
    Ok(inputs)
}

fn resume_directory(
    description: &Description,
    path: Option<PathBuf>,
) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = path else { return Ok(None) };
    if !description.is_resumable {
        return Err(Failure::new(
            Exit::Configuration,
            format!("`{}` starts from the beginning each time", description.name),
        )
        .hint("leave `--resume` out"));
    }
    std::fs::create_dir_all(&path).map_err(|error| {
        Failure::environment(error).cause(format!("creating `{}`", path.display()))
    })?;
    Ok(Some(path))
}

fn read_absent(
    description: &Description,
    pairs: &[String],
) -> Result<BTreeMap<String, Vec<Absent>>, Failure> {
    let mut absent: BTreeMap<String, Vec<Absent>> = BTreeMap::new();
    for pair in pairs {
        let (role, label, reason) = split_input(pair)?;
        if !find_input(description, role)?.names_absent {
            return Err(Failure::new(
                Exit::Configuration,
                format!("input `{role}` is not told what is absent"),
            ));
        }
        let reason = reason.to_owned();
        absent
            .entry(role.to_owned())
            .or_default()
            .push(Absent { label, reason });
    }
    for given in absent.values_mut() {
        given.sort();
    }
    Ok(absent)
}

/// Splits `ROLE=DIR` or `ROLE[axis=value,...]=DIR`.
fn split_input(pair: &str) -> Result<(&str, Label, &str), Failure> {
    const SHAPE: &str = "ROLE=DIR or ROLE[axis=value,...]=DIR";
    let malformed = || {
        Failure::new(
            Exit::Configuration,
            format!("`{pair}` is not of the form {SHAPE}"),
        )
    };
    let bracket = pair
        .find('[')
        .filter(|open| pair.find('=').is_none_or(|equals| *open < equals));
    match bracket {
        None => {
            let (role, path) = split_pair(pair, SHAPE)?;
            Ok((role, Label::default(), path))
        }
        Some(open) => {
            let (inside, path) = pair[open + 1..].split_once("]=").ok_or_else(malformed)?;
            let label = Label::parse(inside).ok_or_else(malformed)?;
            if open == 0 || path.is_empty() {
                return Err(malformed());
            }
            Ok((&pair[..open], label, path))
        }
    }
}

/// Creates the output directories; refuses those that hold something.
fn prepare_outputs(description: &Description, out: &Path) -> Result<(), Failure> {
    for output in &description.outputs {
        let path = out.join(output.role);
        let is_taken = std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some());
        if is_taken {
            return Err(Failure::new(
                Exit::Environment,
                format!("output directory `{}` is not empty", path.display()),
            )
            .hint("name another directory with `--out`"));
        }
        std::fs::create_dir_all(&path).map_err(|error| {
            Failure::environment(error)
                .cause(format!("creating output directory `{}`", path.display()))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_come_with_and_without_labels() {
        let (role, label, path) = split_input("scores[method=random,model=markov]=a/b=c").unwrap();
        assert_eq!((role, path), ("scores", "a/b=c"));
        assert_eq!(label.to_string(), "method=random,model=markov");
        assert_eq!(split_input("samples=x[1]").unwrap().2, "x[1]");
        for wrong in [
            "samples",
            "=x",
            "samples=",
            "scores[a]=x",
            "[a=b]=x",
            "scores[a=b=x",
        ] {
            assert!(split_input(wrong).is_err(), "{wrong}");
        }
    }
}
