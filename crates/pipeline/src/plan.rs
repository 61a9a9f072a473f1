//! From elements to a plan: every element checked, every input resolved to one output, before the
//! first stage starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;
use stage::{Failure, Label, Offer, Offers, suggest};

use crate::description::{Description, MEASURED};
use crate::executable::{Checked, Executable, Stages};
use crate::expand::{Element, expand, is_meant};
use crate::grammar::{Pipeline, Reference};
use crate::measure::processors;

/// A pipeline whose every element was checked.
#[derive(Debug)]
pub struct Plan {
    /// The file.
    pub pipeline: Pipeline,
    /// Its elements, producers before readers.
    pub steps: Vec<Step>,
}

/// One element, checked.
#[derive(Debug)]
pub struct Step {
    /// The element.
    pub element: Element,
    /// The stage that runs it.
    pub executable: Arc<Executable>,
    /// Inputs in the order of the file, those of one role together; empty if not applicable.
    pub inputs: Vec<Input>,
    /// What it gathers but cannot be made, for the roles that want to know.
    pub absent: Vec<Absent>,
    /// What checking found.
    pub checked: Checked,
}

/// One artifact that an element reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Role at the reader.
    pub role: String,
    /// Whether that role takes several, so that the label is passed on.
    pub is_many: bool,
    /// Place of the producer.
    pub label: Label,
    /// Index of the producer among the steps.
    pub producer: usize,
    /// Name of the output at the producer.
    pub output: String,
    /// Whether it holds measured things.
    pub is_measured: bool,
}

/// What an element gathers but is not applicable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Role at the reader.
    pub role: String,
    /// Place of the producer.
    pub label: Label,
    /// Why.
    pub reason: String,
}

impl Step {
    /// Stable name.
    pub fn name(&self) -> &str {
        &self.element.name
    }

    /// Why it cannot apply; `None` if it can.
    pub fn not_applicable(&self) -> Option<&str> {
        match &self.checked {
            Checked::Applicable { .. } => None,
            Checked::NotApplicable { reason } => Some(reason),
        }
    }

    /// The normalised configuration; null if not applicable.
    pub fn config(&self) -> &Json {
        match &self.checked {
            Checked::Applicable { config, .. } => config,
            Checked::NotApplicable { .. } => &Json::Null,
        }
    }

    /// Names and kinds of its outputs, without the runner's own.
    pub fn outputs(&self) -> BTreeMap<&str, &str> {
        match &self.checked {
            Checked::Applicable { offers, .. } => offers
                .iter()
                .map(|(role, given)| {
                    let kind = given.first().map_or(role, |offer| &offer.kind);
                    (role.as_str(), kind.as_str())
                })
                .collect(),
            Checked::NotApplicable { .. } => BTreeMap::new(),
        }
    }

    /// What one of its outputs offers.
    fn offer(&self, output: &str) -> Offer {
        match &self.checked {
            Checked::Applicable { offers, .. } => offers
                .get(output)
                .and_then(|given| given.first().cloned())
                .unwrap_or_else(|| Offer {
                    kind: output.to_owned(),
                    ..Offer::default()
                }),
            Checked::NotApplicable { .. } => Offer::default(),
        }
    }
}

impl Plan {
    /// Expands and checks a pipeline.
    ///
    /// # Errors
    /// If anything in the file cannot be run as written.
    pub fn new(pipeline: Pipeline, stages: &mut Stages<'_>) -> Result<Self, Failure> {
        let mut executables = Vec::new();
        for node in &pipeline.nodes {
            let executable = stages.get(&node.stage).map_err(|failure| {
                let place = pipeline.error(&node.name, "stage", "");
                located(failure, &format!("`{}`{}", node.name, place.message))
            })?;
            executables.push(executable);
        }
        let descriptions: Vec<&Description> = executables
            .iter()
            .map(|executable| &executable.description)
            .collect();
        let elements = expand(&pipeline, &descriptions)?;
        let mut plan = Self {
            pipeline,
            steps: Vec::with_capacity(elements.len()),
        };
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            // Elements that read only what is checked already are asked about at the same time.
            let n_checked = plan.steps.len();
            let mut wave = Vec::new();
            while wave.len() < processors()
                && let Some(element) = elements
                    .next_if(|element| element.wires.iter().all(|wire| wire.producer < n_checked))
            {
                wave.push(element);
            }
            plan.check_all(wave, &executables, stages)?;
        }
        Ok(plan)
    }

    /// Folder of a pipeline file, where `./path` starts.
    pub fn folder_of(file: &Path) -> &Path {
        file.parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    fn check_all(
        &mut self,
        wave: Vec<Element>,
        executables: &[Arc<Executable>],
        stages: &Stages<'_>,
    ) -> Result<(), Failure> {
        let plan = &*self;
        let checked: Vec<Result<Step, Failure>> = std::thread::scope(|scope| {
            let asked: Vec<_> = wave
                .into_iter()
                .map(|element| {
                    let executable = Arc::clone(&executables[element.node]);
                    scope.spawn(move || plan.check(element, executable, stages))
                })
                .collect();
            let bug = |_| Err(Failure::new(stage::Exit::Bug, "a check ended in a panic"));
            asked
                .into_iter()
                .map(|answer| answer.join().unwrap_or_else(bug))
                .collect()
        });
        for step in checked {
            self.steps.push(step?);
        }
        Ok(())
    }

    fn check(
        &self,
        element: Element,
        executable: Arc<Executable>,
        stages: &Stages<'_>,
    ) -> Result<Step, Failure> {
        let node = self.pipeline.nodes[element.node].name.clone();
        let description = &executable.description;
        let resolved = self.inputs(&element, description)?;
        let (inputs, absent, checked) = match resolved {
            Err(reason) => (Vec::new(), Vec::new(), Checked::NotApplicable { reason }),
            Ok((inputs, absent)) => {
                let offers = self.offers(&inputs);
                let config = Json::Object(element.with.clone());
                let checked = stages.check(&executable, &config, &offers);
                let checked = checked.map_err(|failure| {
                    let needle = needle_of(&failure);
                    let place = self.pipeline.error(&node, &needle, "");
                    located(failure, &format!("`{}`{}", element.name, place.message))
                })?;
                (inputs, absent, checked)
            }
        };
        if let Checked::NotApplicable { reason } = &checked
            && element.place.is_empty()
        {
            return Err(self
                .pipeline
                .error(
                    &node,
                    &node,
                    format!("`{node}` is not applicable: {reason}"),
                )
                .hint("remove the node, or wire it to something that it can work on"));
        }
        if let Checked::Applicable { offers, .. } = &checked {
            for role in offers.keys() {
                if !description
                    .outputs
                    .iter()
                    .any(|output| output.role == *role)
                {
                    return Err(self.pipeline.error(
                        &node,
                        "stage",
                        format!(
                            "stage `{}` offers `{role}`, which its `describe` does not list",
                            description.name
                        ),
                    ));
                }
            }
        }
        Ok(Step {
            element,
            executable,
            inputs,
            absent,
            checked,
        })
    }

    /// Resolves the wires of an element: what it reads, and what it gathers in vain. The inner
    /// error says why it is not applicable.
    #[expect(clippy::type_complexity, reason = "two outcomes, used once")]
    fn inputs(
        &self,
        element: &Element,
        description: &Description,
    ) -> Result<Result<(Vec<Input>, Vec<Absent>), String>, Failure> {
        let node = &self.pipeline.nodes[element.node].name;
        let mut inputs: Vec<Input> = Vec::new();
        let mut absent: Vec<Absent> = Vec::new();
        for wire in &element.wires {
            let producer = &self.steps[wire.producer];
            if let Some(reason) = producer.not_applicable() {
                // A reader that gathers does not get it; one that needs it is not applicable either.
                if wire.is_many {
                    let declared = description.input(&wire.role);
                    if declared.is_ok_and(|declared| declared.names_absent) {
                        absent.push(Absent {
                            role: wire.role.clone(),
                            label: wire.label.clone(),
                            reason: reason.to_owned(),
                        });
                    }
                    continue;
                }
                return Ok(Err(format!(
                    "its input `{}` comes from `{}`, which is not applicable",
                    wire.role,
                    producer.name()
                )));
            }
            let declared = description
                .input(&wire.role)
                .map_err(|hint| self.pipeline.error(node, &wire.role, hint))?;
            let output = self.output(element, producer, &wire.reference, declared)?;
            let is_measured = producer.executable.description.is_measured(&output);
            let input = Input {
                role: wire.role.clone(),
                is_many: wire.is_many,
                label: wire.label.clone(),
                producer: wire.producer,
                output,
                is_measured,
            };
            if inputs.contains(&input) {
                return Err(self.pipeline.error(
                    node,
                    &wire.reference.to_string(),
                    format!(
                        "`{}.{}` arrives twice at input `{}` of `{}`",
                        producer.name(),
                        input.output,
                        wire.role,
                        element.name
                    ),
                ));
            }
            inputs.push(input);
        }
        let missing = description.inputs.iter().find(|declared| {
            !declared.is_optional && !inputs.iter().any(|input| input.role == declared.role)
        });
        let Some(missing) = missing else {
            return Ok(Ok((inputs, absent)));
        };
        if element.wires.iter().any(|wire| wire.role == missing.role) {
            return Ok(Err(format!(
                "nothing that is wired to its input `{}` is applicable",
                missing.role
            )));
        }
        Err(self
            .pipeline
            .error(
                node,
                node,
                format!(
                    "`{node}` lacks input `{}` of stage `{}`",
                    missing.role, description.name
                ),
            )
            .hint(format!(
                "wire an output of kind `{}` to it",
                missing.kinds.join("` or `")
            )))
    }

    /// Which output of a producer is meant, and whether the role takes it.
    fn output(
        &self,
        element: &Element,
        producer: &Step,
        reference: &Reference,
        declared: &crate::description::Input,
    ) -> Result<String, Failure> {
        let node = &self.pipeline.nodes[element.node].name;
        let text = reference.to_string();
        let outputs = producer.outputs();
        let chosen = match &reference.output {
            Some(output) if outputs.contains_key(output.as_str()) || output == MEASURED => {
                Ok(output.clone())
            }
            Some(output) => Err(format!("`{}` does not give `{output}`", producer.name())),
            None => default_output(&outputs, declared).ok_or_else(|| {
                format!(
                    "`{text}` at input `{}` leaves open which output of `{}` is meant",
                    declared.role,
                    producer.name()
                )
            }),
        };
        let output = chosen.map_err(|message| {
            let known = outputs.keys().copied().chain([MEASURED]);
            self.pipeline.error(node, &text, message).hint(suggest(
                reference.output.as_deref().unwrap_or_default(),
                known,
            ))
        })?;
        let kind = match outputs.get(output.as_str()) {
            Some(kind) => kind,
            None => MEASURED,
        };
        if !declared.kinds.iter().any(|known| known == kind) {
            let stage = &self.pipeline.nodes[element.node].stage;
            let failure = self.pipeline.error(
                node,
                &text,
                format!(
                    "input `{}` of `{node}` (stage `{stage}`) takes `{}`, not `{kind}`",
                    declared.role,
                    declared.kinds.join("`, `")
                ),
            );
            return Err(failure.hint(if matches!(kind, "planted" | "truth") {
                "the truth about samples may be read by `evaluate` and `report` alone"
            } else {
                "wire an output of the right kind"
            }));
        }
        Ok(output)
    }

    /// What the inputs offer, by role, in the order of their labels.
    fn offers(&self, inputs: &[Input]) -> Offers {
        let mut offers = Offers::new();
        let mut ordered: Vec<&Input> = inputs.iter().collect();
        ordered.sort_by(|a, b| a.label.cmp(&b.label));
        for input in ordered {
            let offer = self.steps[input.producer].offer(&input.output);
            offers.entry(input.role.clone()).or_default().push(offer);
        }
        offers
    }

    /// Steps that a person means by `node`, `node[selection]` or a stable name.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, text: &str) -> Result<BTreeSet<usize>, Failure> {
        if let Some(index) = self.steps.iter().position(|step| step.name() == text) {
            return Ok(BTreeSet::from([index]));
        }
        let unknown = |message: String| {
            let nodes = self.pipeline.nodes.iter().map(|node| node.name.as_str());
            Failure::new(stage::Exit::Configuration, message).hint(suggest(text, nodes))
        };
        let reference = Reference::parse(text).map_err(unknown)?;
        let found: BTreeSet<usize> = (0..self.steps.len())
            .filter(|index| is_meant(&self.pipeline, &self.steps[*index].element, &reference))
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let elements: Vec<&str> = self
            .steps
            .iter()
            .filter(|step| self.pipeline.nodes[step.element.node].name == reference.node)
            .map(Step::name)
            .collect();
        Err(if elements.is_empty() {
            unknown(format!(
                "pipeline `{}` has no node `{}`",
                self.pipeline.name, reference.node
            ))
        } else {
            Failure::new(
                stage::Exit::Configuration,
                format!("pipeline `{}` has no `{text}`", self.pipeline.name),
            )
            .hint(suggest(text, elements))
        })
    }

    /// Some steps and everything that they read, directly or not.
    pub fn with_producers(&self, steps: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut wanted = steps.clone();
        for index in (0..self.steps.len()).rev() {
            if wanted.contains(&index) {
                wanted.extend(self.steps[index].inputs.iter().map(|input| input.producer));
            }
        }
        wanted
    }

    /// Some steps and everything that reads them, directly or not.
    pub fn with_readers(&self, steps: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut wanted = steps.clone();
        for (index, step) in self.steps.iter().enumerate() {
            if step
                .inputs
                .iter()
                .any(|input| wanted.contains(&input.producer))
            {
                wanted.insert(index);
            }
        }
        wanted
    }
}

/// The output that a bare node name means: the one named like the role; else, where only measured
/// things are taken, the runner's own; else the only one; else the only one of a kind that the role takes.
fn default_output(
    outputs: &BTreeMap<&str, &str>,
    declared: &crate::description::Input,
) -> Option<String> {
    if outputs.contains_key(declared.role.as_str()) {
        return Some(declared.role.clone());
    }
    if declared.kinds == [MEASURED] {
        return Some(MEASURED.to_owned());
    }
    let only = |mut names: Vec<&str>| (names.len() == 1).then(|| names.remove(0).to_owned());
    only(outputs.keys().copied().collect()).or_else(|| {
        only(
            outputs
                .iter()
                .filter(|(_, kind)| declared.kinds.iter().any(|known| known == *kind))
                .map(|(role, _)| *role)
                .collect(),
        )
    })
}

/// Puts the place of a failure before its message.
fn located(mut failure: Failure, place: &str) -> Failure {
    failure.causes.insert(0, failure.message);
    failure.message = format!("failed to check {place}");
    failure
}

/// The name that a stage's message is about, the one that it did not know, to find the line.
fn needle_of(failure: &Failure) -> String {
    let mut texts = failure.causes.iter().chain([&failure.message]);
    let unknown = texts.find_map(|text| text.split_once("unknown ")?.1.split('`').nth(1));
    unknown.unwrap_or("with").to_owned()
}
