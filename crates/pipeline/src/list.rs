//! What `plan`, `status` and `why` print.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use stage::Failure;

use crate::cli::print_json;
use crate::console::{count, line};
use crate::plan::{Plan, Step};
use crate::resolve::{Resolver, State};
use crate::why::{Answer, Oracle};

fn width_of<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .min(48)
}

/// Where an input comes from, by the reader's role.
fn sources(plan: &Plan, step: &Step) -> Vec<(String, String)> {
    let mut sources: Vec<(String, Vec<String>)> = Vec::new();
    for input in &step.inputs {
        let from = format!("{}.{}", plan.steps[input.producer].name(), input.output);
        match sources.last_mut() {
            Some((role, list)) if *role == input.role => list.push(from),
            _ => sources.push((input.role.clone(), vec![from])),
        }
    }
    sources
        .into_iter()
        .map(|(role, list)| (role, list.join(", ")))
        .collect()
}

/// Prints a plan.
///
/// # Errors
/// If the store cannot be read.
pub fn plan(plan: &Plan, resolver: &Resolver<'_>, is_json: bool) -> Result<(), Failure> {
    let oracle = Oracle::new(plan, resolver)?;
    if is_json {
        print_json(&plan_json(plan, &oracle));
        return Ok(());
    }
    let pipeline = &plan.pipeline;
    line(format_args!(
        "pipeline {} (seed {}): {} from {}",
        pipeline.name,
        pipeline.seed,
        count(plan.steps.len(), "element"),
        count(pipeline.nodes.len(), "node"),
    ));
    if let Some(about) = &pipeline.about {
        line(about);
    }
    let applicable = || {
        plan.steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.not_applicable().is_none())
    };
    let width = width_of(applicable().map(|(_, step)| step.name()));
    for (index, step) in applicable() {
        line(format_args!(
            "\n  {:<width$}  {}  {}",
            step.name(),
            step.executable.description.name,
            oracle.word(index)
        ));
        for (role, from) in sources(plan, step) {
            line(format_args!("      {role} <- {from}"));
        }
        let outputs: Vec<&str> = step.outputs().into_keys().collect();
        line(format_args!("      -> {}", outputs.join(", ")));
    }
    let not_applicable: Vec<&Step> = plan
        .steps
        .iter()
        .filter(|step| step.not_applicable().is_some())
        .collect();
    if !not_applicable.is_empty() {
        line("\nnot applicable, and skipped:");
        let width = width_of(not_applicable.iter().map(|step| step.name()));
        for step in not_applicable {
            line(format_args!(
                "  {:<width$}  {}",
                step.name(),
                step.not_applicable().unwrap_or_default()
            ));
        }
    }
    let n_stale = oracle
        .states()
        .iter()
        .filter(|state| !matches!(state, State::UpToDate(_) | State::NotApplicable))
        .count();
    line(if n_stale == 0 {
        "\nnothing to do".to_owned()
    } else {
        format!("\n{} to run", count(n_stale, "element"))
    });
    Ok(())
}

fn plan_json(plan: &Plan, oracle: &Oracle<'_>) -> Json {
    let nodes: Vec<Json> = plan
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let inputs: Vec<Json> = step
                .inputs
                .iter()
                .map(|input| {
                    json!({
                        "role": input.role,
                        "label": input.label.to_string(),
                        "node": plan.steps[input.producer].name(),
                        "output": input.output,
                        "measured": input.is_measured,
                    })
                })
                .collect();
            json!({
                "name": step.name(),
                "node": plan.pipeline.nodes[step.element.node].name,
                "label": step.element.label().to_string(),
                "stage": step.executable.description.name,
                "executable": step.executable.path,
                "config": step.config(),
                "inputs": inputs,
                "outputs": step.outputs(),
                "not_applicable": step.not_applicable(),
                "state": oracle.state(index),
            })
        })
        .collect();
    json!({
        "pipeline": plan.pipeline.name,
        "file": plan.pipeline.origin,
        "seed": plan.pipeline.seed,
        "nodes": nodes,
    })
}

/// Prints a line for each step.
pub fn status(plan: &Plan, oracle: &Oracle<'_>, is_json: bool) {
    if is_json {
        let nodes: Vec<Json> = (0..plan.steps.len())
            .map(|index| {
                let outputs = oracle.done()[index]
                    .as_ref()
                    .map(|outputs| &outputs.produced);
                json!({
                    "name": plan.steps[index].name(),
                    "state": oracle.state(index),
                    "word": oracle.word(index),
                    "outputs": outputs,
                })
            })
            .collect();
        print_json(&Json::Array(nodes));
        return;
    }
    let width = width_of(plan.steps.iter().map(Step::name));
    let mut n_fresh = 0;
    for (index, step) in plan.steps.iter().enumerate() {
        n_fresh += usize::from(matches!(oracle.states()[index], State::UpToDate(_)));
        line(format_args!(
            "  {:<width$}  {}",
            step.name(),
            oracle.word(index)
        ));
    }
    line(format_args!(
        "{n_fresh} of {} up to date",
        count(plan.steps.len(), "element")
    ));
}

/// Prints why some steps run, or that they need not.
pub fn why(oracle: &Oracle<'_>, steps: &BTreeSet<usize>, is_json: bool) {
    let answers: Vec<Answer> = steps.iter().map(|index| oracle.answer(*index)).collect();
    if is_json {
        print_json(&json!(answers));
        return;
    }
    for answer in answers {
        let text = match answer.state {
            "up to date" if answer.reasons.is_empty() => "is up to date".to_owned(),
            "up to date" => "is up to date; it last ran because".to_owned(),
            "stale" => "would run because".to_owned(),
            "waiting" => "waits for what it reads".to_owned(),
            "never ran" if answer.reasons.is_empty() => "never ran".to_owned(),
            "never ran" if oracle.waits(answer.index) => {
                "never ran, and waits for what it reads".to_owned()
            }
            "never ran" => "never ran; the nearest past run of its stage differs in".to_owned(),
            "not applicable" => "is not applicable because".to_owned(),
            other => format!("is {other}"),
        };
        line(format_args!("{} {text}", answer.name));
        let mut lines = Vec::new();
        for reason in &answer.reasons {
            reason.lines(1, &mut lines);
        }
        for text in lines {
            line(text);
        }
    }
}
