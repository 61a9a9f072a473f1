//! From nodes with axes to elements with names.
//!
//! A node with axes stands for one *element* for each combination of their values, the first axis
//! varying slowest. Which axes a node has:
//!
//! 1. its own, from `for`, in the order written;
//! 2. those it *follows*: every axis, not selected in the reference, of the producers of its
//!    single inputs, in the order of its inputs.
//!
//! At an input that takes several artifacts, an axis that the node has is followed (same value on
//! both sides) and every other axis of the producer is *gathered*: all its values arrive, labelled.
//!
//! An element is called `node[first,axis=value,...]`: the value on the first axis is bare if it is
//! a word; every other value is written with its axis.
//!
//! An axis `seed` that is followed also gives its value to the `seed` of a stage that uses chance,
//! so that what is trained again is trained again with the seed it is compared under.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use stage::{Failure, Label, suggest};

use crate::description::Description;
use crate::grammar::{Axis, AxisValue, Node, Pipeline, Reference};

/// Most elements of one pipeline.
pub const MAX_ELEMENTS: usize = 10_000;

/// One node at one place of its axes: what is run.
#[derive(Clone, Debug)]
pub struct Element {
    /// Stable name, such as `model[sasrec,seed=2]`.
    pub name: String,
    /// Index of its node in the pipeline.
    pub node: usize,
    /// Value on each of its axes, in order.
    pub place: Vec<(String, String)>,
    /// Configuration with the values of its own axes and the seed filled in.
    pub with: Map<String, Json>,
    /// Inputs in the order of the file; several for a role that takes several.
    pub wires: Vec<Wire>,
}

/// One artifact on its way into an element.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Role at the element.
    pub role: String,
    /// Whether that role takes several.
    pub is_many: bool,
    /// Element that makes it: an index into the elements.
    pub producer: usize,
    /// As written.
    pub reference: Reference,
    /// Place of the producer, with its node's name on the axis `node`.
    pub label: Label,
}

impl Element {
    /// Value on an axis.
    fn value(&self, axis: &str) -> Option<&str> {
        self.place
            .iter()
            .find(|(name, _)| name == axis)
            .map(|(_, value)| value.as_str())
    }

    /// Place on the axes, without the node's name.
    pub fn label(&self) -> Label {
        Label(self.place.iter().cloned().collect())
    }
}

/// Expands a pipeline. `descriptions` runs parallel to its nodes. The elements come in an order in
/// which producers stand before their readers, and otherwise in the order of the file.
///
/// # Errors
/// If a reference names what is not there, nodes form a cycle, or there are too many elements.
pub fn expand(pipeline: &Pipeline, descriptions: &[&Description]) -> Result<Vec<Element>, Failure> {
    let order = order(pipeline)?;
    let mut expansion = Expansion {
        pipeline,
        descriptions,
        axes: vec![Vec::new(); pipeline.nodes.len()],
        first: vec![0; pipeline.nodes.len()],
        elements: Vec::new(),
    };
    for index in order {
        expansion.node(index)?;
    }
    Ok(expansion.elements)
}

/// Index of each referenced node, in the order of the inputs.
fn producers(pipeline: &Pipeline, node: &Node) -> Result<Vec<usize>, Failure> {
    let mut producers = Vec::new();
    for reference in node.inputs.iter().flat_map(|(_, references)| references) {
        let found = pipeline
            .nodes
            .iter()
            .position(|other| other.name == reference.node);
        producers.push(found.ok_or_else(|| {
            pipeline
                .error(
                    &node.name,
                    &reference.to_string(),
                    format!("`{}` reads unknown node `{}`", node.name, reference.node),
                )
                .hint(suggest(
                    &reference.node,
                    pipeline.nodes.iter().map(|other| other.name.as_str()),
                ))
        })?);
    }
    Ok(producers)
}

/// Nodes in an order in which producers stand before readers; the first in the file where several could.
fn order(pipeline: &Pipeline) -> Result<Vec<usize>, Failure> {
    let n = pipeline.nodes.len();
    let producers: Vec<Vec<usize>> = pipeline
        .nodes
        .iter()
        .map(|node| producers(pipeline, node))
        .collect::<Result<_, _>>()?;
    let mut order = Vec::with_capacity(n);
    let mut is_placed = vec![false; n];
    while order.len() < n {
        let next = (0..n).find(|&index| {
            !is_placed[index] && producers[index].iter().all(|&producer| is_placed[producer])
        });
        match next {
            Some(index) => {
                is_placed[index] = true;
                order.push(index);
            }
            None => return Err(cycle(pipeline, &producers, &is_placed)),
        }
    }
    Ok(order)
}

/// Names one cycle among the nodes that could not be placed.
fn cycle(pipeline: &Pipeline, producers: &[Vec<usize>], is_placed: &[bool]) -> Failure {
    let start = is_placed.iter().position(|placed| !placed).unwrap_or(0);
    let mut path = vec![start];
    loop {
        let at = path[path.len() - 1];
        // Every unplaced node reads another unplaced one, so this walk must come back.
        let Some(&next) = producers[at].iter().find(|&&producer| !is_placed[producer]) else {
            break;
        };
        if let Some(begin) = path.iter().position(|&seen| seen == next) {
            path.drain(..begin);
            path.push(next);
            break;
        }
        path.push(next);
    }
    let names: Vec<String> = path
        .iter()
        .rev()
        .map(|&index| format!("`{}`", pipeline.nodes[index].name))
        .collect();
    let node = &pipeline.nodes[path[0]].name;
    pipeline
        .error(
            node,
            node,
            format!("nodes form a cycle: {}", names.join(" -> ")),
        )
        .hint("remove one of these inputs")
}

struct Expansion<'a> {
    pipeline: &'a Pipeline,
    descriptions: &'a [&'a Description],
    /// Axes of each node, own and followed.
    axes: Vec<Vec<Axis>>,
    /// Index of the first element of each node; its elements follow each other.
    first: Vec<usize>,
    elements: Vec<Element>,
}

/// A reference with its meaning.
struct Source<'a> {
    role: &'a str,
    is_many: bool,
    reference: &'a Reference,
    producer: usize,
    selected: BTreeMap<String, String>,
}

impl<'a> Expansion<'a> {
    fn node(&mut self, index: usize) -> Result<(), Failure> {
        let node = &self.pipeline.nodes[index];
        let sources = self.sources(index)?;
        let own = node.axes.len();
        let mut axes = node.axes.clone();
        for source in sources.iter().filter(|source| !source.is_many) {
            for axis in &self.axes[source.producer] {
                let is_free = !source.selected.contains_key(&axis.name);
                if is_free && !axes.iter().any(|other| other.name == axis.name) {
                    axes.push(axis.clone());
                }
            }
        }
        let n = axes
            .iter()
            .try_fold(1_usize, |n, axis| n.checked_mul(axis.values.len()))
            .filter(|n| self.elements.len() + n <= MAX_ELEMENTS)
            .ok_or_else(|| {
                self.pipeline.error(
                    &node.name,
                    "for",
                    format!(
                        "`{}` expands the pipeline beyond {MAX_ELEMENTS} elements",
                        node.name
                    ),
                )
            })?;
        self.first[index] = self.elements.len();
        for combination in 0..n {
            let values = values_at(&axes, combination);
            let element = self.element(index, &axes, own, &values, &sources)?;
            self.elements.push(element);
        }
        self.axes[index] = axes;
        Ok(())
    }

    /// The references of a node, with their producers and selections looked up.
    fn sources(&self, index: usize) -> Result<Vec<Source<'a>>, Failure> {
        let node = &self.pipeline.nodes[index];
        let mut sources = Vec::new();
        for (role, references) in &node.inputs {
            let input = self.descriptions[index].input(role).map_err(|hint| {
                let stage = &self.descriptions[index].name;
                self.pipeline
                    .error(&node.name, role, format!("`{stage}` has no input `{role}`"))
                    .hint(hint)
            })?;
            if references.len() > 1 && !input.is_many {
                return Err(self.pipeline.error(
                    &node.name,
                    role,
                    format!(
                        "input `{role}` of `{}` takes one artifact, {} are wired",
                        node.name,
                        references.len()
                    ),
                ));
            }
            for reference in references {
                // `order` found every referenced node.
                let producer = self
                    .pipeline
                    .nodes
                    .iter()
                    .position(|other| other.name == reference.node)
                    .unwrap_or_default();
                sources.push(Source {
                    role,
                    is_many: input.is_many,
                    reference,
                    producer,
                    selected: self.select(node, producer, reference)?,
                });
            }
        }
        Ok(sources)
    }

    /// The meaning of a selection: axis and value, both known to the producer.
    fn select(
        &self,
        node: &Node,
        producer: usize,
        reference: &Reference,
    ) -> Result<BTreeMap<String, String>, Failure> {
        selected(&self.axes[producer], reference).map_err(|(message, hint)| {
            let text = reference.to_string();
            self.pipeline
                .error(
                    &node.name,
                    &text,
                    format!("`{}` reads `{text}`: {message}", node.name),
                )
                .hint(hint)
        })
    }

    fn element(
        &self,
        index: usize,
        axes: &[Axis],
        own: usize,
        values: &[&AxisValue],
        sources: &[Source<'_>],
    ) -> Result<Element, Failure> {
        let node = &self.pipeline.nodes[index];
        let place: Vec<(String, String)> = axes
            .iter()
            .zip(values)
            .map(|(axis, value)| (axis.name.clone(), value.label.clone()))
            .collect();
        let mut with = node.with.clone();
        for (axis, value) in axes.iter().zip(values).take(own) {
            set_field(&mut with, &axis.name, &value.value)
                .map_err(|message| self.pipeline.error(&node.name, &axis.name, message))?;
        }
        if self.descriptions[index].uses_seed && !with.contains_key("seed") {
            let followed = axes
                .iter()
                .zip(values)
                .find(|(axis, _)| axis.name == "seed")
                .map(|(_, value)| value.value.clone());
            let seed = followed.unwrap_or_else(|| Json::from(self.pipeline.seed));
            with.insert("seed".to_owned(), seed);
        }
        let mut element = Element {
            name: element_name(&node.name, &place, values),
            node: index,
            place,
            with,
            wires: Vec::new(),
        };
        for source in sources {
            self.wire(&mut element, source)?;
        }
        Ok(element)
    }

    /// Adds the artifacts of one reference to an element.
    fn wire(&self, element: &mut Element, source: &Source<'_>) -> Result<(), Failure> {
        let node = &self.pipeline.nodes[element.node];
        let mut wanted = source.selected.clone();
        for axis in &self.axes[source.producer] {
            if wanted.contains_key(&axis.name) {
                continue;
            }
            let Some(value) = element.value(&axis.name) else {
                continue;
            };
            if !axis.values.iter().any(|known| known.label == value) {
                return Err(self
                    .pipeline
                    .error(
                        &node.name,
                        &source.reference.to_string(),
                        format!(
                            "`{}` follows axis `{}` of `{}`, which has no value `{value}`",
                            element.name, axis.name, source.reference.node
                        ),
                    )
                    .hint(suggest(
                        value,
                        axis.values.iter().map(|known| known.label.as_str()),
                    )));
            }
            wanted.insert(axis.name.clone(), value.to_owned());
        }
        let first = self.first[source.producer];
        let found = self.elements[first..]
            .iter()
            .enumerate()
            .take_while(|(_, other)| other.node == source.producer)
            .filter(|(_, other)| {
                wanted
                    .iter()
                    .all(|(axis, value)| other.value(axis) == Some(value))
            });
        for (offset, other) in found {
            let mut label = other.label();
            label
                .0
                .insert("node".to_owned(), source.reference.node.clone());
            element.wires.push(Wire {
                role: source.role.to_owned(),
                is_many: source.is_many,
                producer: first + offset,
                reference: source.reference.clone(),
                label,
            });
        }
        Ok(())
    }
}

/// The values of the n-th combination, the first axis varying slowest.
fn values_at(axes: &[Axis], mut combination: usize) -> Vec<&AxisValue> {
    let mut values: Vec<&AxisValue> = axes
        .iter()
        .rev()
        .map(|axis| {
            let value = &axis.values[combination % axis.values.len()];
            combination /= axis.values.len();
            value
        })
        .collect();
    values.reverse();
    values
}

fn element_name(node: &str, place: &[(String, String)], values: &[&AxisValue]) -> String {
    if place.is_empty() {
        return node.to_owned();
    }
    let parts: Vec<String> = place
        .iter()
        .zip(values)
        .enumerate()
        .map(|(index, ((axis, value), meant))| {
            if index == 0 && meant.is_word {
                value.clone()
            } else {
                format!("{axis}={value}")
            }
        })
        .collect();
    format!("{node}[{}]", parts.join(","))
}

/// The meaning of a selection on axes; an error is (message, hint).
fn selected(
    axes: &[Axis],
    reference: &Reference,
) -> Result<BTreeMap<String, String>, (String, String)> {
    let mut selected = BTreeMap::new();
    for (axis, value) in &reference.selection {
        let found = match axis {
            None => axes.first(),
            Some(name) => axes.iter().find(|axis| axis.name == *name),
        };
        let Some(found) = found else {
            return Err(if axes.is_empty() {
                (
                    format!("`{}` has no axes", reference.node),
                    format!("write `{}` without brackets", reference.node),
                )
            } else {
                let name = axis.as_deref().unwrap_or_default();
                (
                    format!("`{}` has no axis `{name}`", reference.node),
                    suggest(name, axes.iter().map(|axis| axis.name.as_str())),
                )
            });
        };
        if !found.values.iter().any(|known| known.label == *value) {
            return Err((
                format!("axis `{}` has no value `{value}`", found.name),
                suggest(value, found.values.iter().map(|known| known.label.as_str())),
            ));
        }
        if selected.insert(found.name.clone(), value.clone()).is_some() {
            return Err((
                format!("axis `{}` is selected twice", found.name),
                "select one value".to_owned(),
            ));
        }
    }
    Ok(selected)
}

/// Sets a field of a configuration by its dotted name, making the mappings on the way.
fn set_field(with: &mut Map<String, Json>, path: &str, value: &Json) -> Result<(), String> {
    match path.split_once('.') {
        None => {
            with.insert(path.to_owned(), value.clone());
            Ok(())
        }
        Some((first, rest)) => {
            let inner = with
                .entry(first.to_owned())
                .or_insert_with(|| Json::Object(Map::new()));
            match inner {
                Json::Object(inner) => set_field(inner, rest, value),
                _ => Err(format!("axis `{path}` needs `{first}` to be a mapping")),
            }
        }
    }
}

/// Whether an element is meant by a reference on the command line.
pub fn is_meant(pipeline: &Pipeline, element: &Element, reference: &Reference) -> bool {
    pipeline.nodes[element.node].name == reference.node
        && reference.selection.iter().all(|(axis, value)| match axis {
            None => element.place.first().map(|(_, value)| value) == Some(value),
            Some(axis) => element.value(axis) == Some(value),
        })
}
