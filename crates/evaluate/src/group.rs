//! What an input is called, and which inputs are replicates of one thing.

use stage::Label;
use tables::Metric;

/// Axes that have columns of their own, and the axis of replicates.
const NAMED: [&str; 4] = ["node", "model", "method", "seed"];

/// Inputs that differ in the seed alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Node that made them.
    pub(crate) node: String,
    /// Value on the axis `model`.
    pub(crate) model: Option<String>,
    /// Value on the axis `method`, else what the scores say.
    pub(crate) method: Option<String>,
    /// Label without the axis `seed`.
    pub(crate) axes: Label,
    /// Its inputs, as indices.
    pub(crate) members: Vec<usize>,
}

impl Group {
    /// Groups labelled inputs in the order of their first members. `role` names inputs that come
    /// without a node, as they do by hand.
    pub(crate) fn of<'a>(labels: impl IntoIterator<Item = &'a Label>, role: &str) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (index, label) in labels.into_iter().enumerate() {
            let axes = label.without("seed");
            // Inputs without any seed are never replicates.
            let is_replicate = label.get("seed").is_some();
            match groups
                .iter_mut()
                .find(|group| is_replicate && group.axes == axes)
            {
                Some(group) => group.members.push(index),
                None => groups.push(Self {
                    node: label.get("node").unwrap_or(role).to_owned(),
                    model: label.get("model").map(str::to_owned),
                    method: label.get("method").map(str::to_owned),
                    axes,
                    members: vec![index],
                }),
            }
        }
        groups
    }

    /// Axes without a column of their own, as `axis=value,axis=value`.
    pub(crate) fn further(&self) -> String {
        let mut further = self.axes.clone();
        for axis in NAMED {
            further = further.without(axis);
        }
        further.to_string()
    }

    /// Whether the two agree on every axis that both have, apart from `except` and the node.
    pub(crate) fn shares_axes(&self, other: &Self, except: &[&str]) -> bool {
        self.axes.0.iter().all(|(axis, value)| {
            axis == "node"
                || except.contains(&axis.as_str())
                || other.axes.get(axis).is_none_or(|other| other == value)
        })
    }

    /// A row of the table `metrics` about this group, without figures.
    pub(crate) fn row(&self, family: &str, metric: String, part: &str, segment: &str) -> Metric {
        Metric {
            family: family.to_owned(),
            metric,
            part: part.to_owned(),
            segment: segment.to_owned(),
            node: self.node.clone(),
            model: self.model.clone(),
            method: self.method.clone(),
            action: None,
            label: self.further(),
            value: 0.0,
            low: None,
            high: None,
            p_value: None,
            n: 0,
            protocol: String::new(),
        }
    }

    /// The label of a row that compares this group with another one.
    pub(crate) fn versus(&self, other: &Self) -> String {
        let mut label = self.axes.clone();
        for axis in NAMED {
            label = label.without(axis);
        }
        let mut name = |axis: &str, value: Option<&str>| {
            if let Some(value) = value {
                label.0.insert(format!("other_{axis}"), value.to_owned());
            }
        };
        name("node", Some(&other.node));
        name("model", other.model.as_deref());
        name("method", other.method.as_deref());
        for (axis, value) in &other.axes.0 {
            if !NAMED.contains(&axis.as_str()) {
                label.0.insert(format!("other_{axis}"), value.clone());
            }
        }
        label.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(labels: &[&str]) -> Vec<Group> {
        let labels: Vec<Label> = labels
            .iter()
            .map(|text| Label::parse(text).unwrap())
            .collect();
        Group::of(&labels, "predictions")
    }

    #[test]
    fn seeds_are_replicates_and_nothing_else_is() {
        let found = groups(&[
            "model=markov,node=model,seed=1",
            "model=markov,node=model,seed=2",
            "model=sasrec,node=model,seed=1",
            "",
            "",
        ]);
        let members: Vec<Vec<usize>> = found.iter().map(|group| group.members.clone()).collect();
        assert_eq!(members, [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert_eq!(found[0].model.as_deref(), Some("markov"));
        assert_eq!(found[2].node, "predictions");
    }

    #[test]
    fn shared_axes_must_agree() {
        let found = groups(&[
            "dim=8,method=loss,model=markov,node=after",
            "dim=8,model=markov,node=model",
            "model=itemknn,node=model",
        ]);
        assert!(found[0].shares_axes(&found[1], &[]));
        assert!(!found[0].shares_axes(&found[2], &[]));
        assert!(found[0].shares_axes(&found[2], &["model"]));
        assert_eq!(found[0].further(), "dim=8");
        assert_eq!(
            found[0].versus(&found[2]),
            "dim=8,other_model=itemknn,other_node=model"
        );
    }
}
