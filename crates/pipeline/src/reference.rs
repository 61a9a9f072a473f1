//! How nodes, their elements and their outputs are named, in files and on the command line.

use std::fmt;

/// Names an output of a node, or of some of its elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The node.
    pub node: String,
    /// Selected values; an axis of `None` is the node's first.
    pub selection: Vec<(Option<String>, String)>,
    /// The output; `None` leaves the choice to the role.
    pub output: Option<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)?;
        for (index, (axis, value)) in self.selection.iter().enumerate() {
            f.write_str(if index == 0 { "[" } else { "," })?;
            match axis {
                Some(axis) => write!(f, "{axis}={value}")?,
                None => f.write_str(value)?,
            }
        }
        if !self.selection.is_empty() {
            f.write_str("]")?;
        }
        match &self.output {
            Some(output) => write!(f, ".{output}"),
            None => Ok(()),
        }
    }
}

impl Reference {
    /// Reads a reference as written.
    ///
    /// # Errors
    /// A sentence saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "`{text}` is not of the form `node`, `node.output` or `node[axis=value].output`"
            )
        };
        let (node, selection, output) = match text.split_once('[') {
            Some((node, rest)) => {
                let (inside, rest) = rest.split_once(']').ok_or_else(malformed)?;
                let output = match rest.strip_prefix('.') {
                    Some(output) => Some(output),
                    None if rest.is_empty() => None,
                    None => return Err(malformed()),
                };
                (node, parse_selection(inside)?, output)
            }
            None => match text.split_once('.') {
                Some((node, output)) => (node, Vec::new(), Some(output)),
                None => (text, Vec::new(), None),
            },
        };
        if !is_name(node) || output.is_some_and(|output| !is_name(output)) {
            return Err(malformed());
        }
        Ok(Self {
            node: node.to_owned(),
            selection,
            output: output.map(str::to_owned),
        })
    }
}

fn parse_selection(inside: &str) -> Result<Vec<(Option<String>, String)>, String> {
    let mut selection = Vec::new();
    for (index, entry) in inside.split(',').enumerate() {
        let (axis, value) = match entry.split_once('=') {
            Some((axis, value)) => (Some(axis.trim().to_owned()), value.trim()),
            None if index == 0 => (None, entry.trim()),
            None => {
                return Err(format!(
                    "`[{inside}]`: only the first value may be bare; write `axis={}`",
                    entry.trim()
                ));
            }
        };
        if !is_label(value) || axis.as_deref().is_some_and(|axis| !is_axis(axis)) {
            return Err(format!(
                "`[{inside}]` is not of the form `[axis=value,...]`"
            ));
        }
        selection.push((axis, value.to_owned()));
    }
    Ok(selection)
}

/// Whether a text can name a pipeline, a node, a role or an output.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 80
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Whether a text can name an axis: names joined by dots.
pub(crate) fn is_axis(text: &str) -> bool {
    text.split('.').all(is_name)
}

/// Whether a text can stand for a value in names and labels.
pub(crate) fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 120
        && !text.chars().any(|c| {
            c.is_whitespace() || c.is_control() || matches!(c, ',' | '=' | '[' | ']' | '"' | '\'')
        })
}
