//! What `graph` prints: the nodes of a pipeline and what they hand each other, as SVG, DOT or
//! Mermaid. Elements of a node are drawn as one box with their number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use clap::ValueEnum;

use crate::plan::Plan;

/// How a graph is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A picture for a browser.
    #[default]
    Svg,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
}

/// One box.
#[derive(Debug)]
struct Card {
    name: String,
    stage: String,
    n_elements: usize,
    n_not_applicable: usize,
    /// Longest way from a node that reads nothing.
    layer: usize,
}

/// Boxes and arrows: from, to, outputs.
#[derive(Debug)]
struct Graph {
    cards: Vec<Card>,
    arrows: Vec<(usize, usize, String)>,
}

/// Draws a plan.
pub fn draw(plan: &Plan, format: Format) -> String {
    let graph = Graph::of(plan);
    match format {
        Format::Svg => graph.svg(&plan.pipeline.name),
        Format::Dot => graph.dot(&plan.pipeline.name),
        Format::Mermaid => graph.mermaid(),
    }
}

impl Graph {
    fn of(plan: &Plan) -> Self {
        let mut cards: Vec<Card> = plan
            .pipeline
            .nodes
            .iter()
            .map(|node| Card {
                name: node.name.clone(),
                stage: node.stage.clone(),
                n_elements: 0,
                n_not_applicable: 0,
                layer: 0,
            })
            .collect();
        let mut outputs: BTreeMap<(usize, usize), BTreeSet<&str>> = BTreeMap::new();
        // Producers come before readers, so one pass settles the layers.
        for step in &plan.steps {
            let to = step.element.node;
            cards[to].n_elements += 1;
            cards[to].n_not_applicable += usize::from(step.not_applicable().is_some());
            for input in &step.inputs {
                let from = plan.steps[input.producer].element.node;
                outputs.entry((from, to)).or_default().insert(&input.output);
                cards[to].layer = cards[to].layer.max(cards[from].layer + 1);
            }
        }
        let arrows = outputs
            .into_iter()
            .map(|((from, to), names)| (from, to, names.into_iter().collect::<Vec<_>>().join(", ")))
            .collect();
        Self { cards, arrows }
    }

    fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (index, card) in self.cards.iter().enumerate() {
            // Writing to a text cannot fail.
            let _ = writeln!(
                text,
                "  n{index}[\"{}<br/><small>{}</small>\"]",
                card.title(),
                card.stage
            );
        }
        for (from, to, names) in &self.arrows {
            let _ = writeln!(text, "  n{from} -- \"{names}\" --> n{to}");
        }
        text
    }

    fn dot(&self, name: &str) -> String {
        let mut text = format!(
            "digraph \"{name}\" {{\n  rankdir=LR; node [shape=box, style=rounded, fontname=\"sans-serif\"]; edge [fontname=\"sans-serif\", fontsize=9];\n"
        );
        for (index, card) in self.cards.iter().enumerate() {
            let _ = writeln!(
                text,
                "  n{index} [label=\"{}\\n{}\"];",
                card.title(),
                card.stage
            );
        }
        for (from, to, names) in &self.arrows {
            let _ = writeln!(text, "  n{from} -> n{to} [label=\"{names}\"];");
        }
        text.push_str("}\n");
        text
    }

    /// Boxes in columns by layer; within a column in the order that crosses least with the column
    /// before, judged by the mean place of what a box reads.
    fn svg(&self, name: &str) -> String {
        const WIDTH: usize = 170;
        const HEIGHT: usize = 44;
        const GAP_X: usize = 70;
        const GAP_Y: usize = 16;
        const MARGIN: usize = 20;
        const TITLE: usize = 30;
        let columns = self.columns();
        let tallest = columns.iter().map(Vec::len).max().unwrap_or(0);
        let mut at = vec![(0, 0); self.cards.len()];
        for (x, column) in columns.iter().enumerate() {
            let above = (tallest - column.len()) * (HEIGHT + GAP_Y) / 2;
            for (y, &card) in column.iter().enumerate() {
                at[card] = (
                    MARGIN + x * (WIDTH + GAP_X),
                    MARGIN + TITLE + above + y * (HEIGHT + GAP_Y),
                );
            }
        }
        let width = 2 * MARGIN + columns.len() * (WIDTH + GAP_X) - GAP_X.min(columns.len() * GAP_X);
        let height = 2 * MARGIN + TITLE + tallest * (HEIGHT + GAP_Y);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"system-ui, sans-serif\">\n<title>Pipeline {}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{MARGIN}\" y=\"{}\" font-size=\"15\" font-weight=\"600\" fill=\"#222\">{}</text>\n",
            escaped(name),
            MARGIN + 8,
            escaped(name)
        );
        for (from, to, names) in &self.arrows {
            let (x1, y1) = (at[*from].0 + WIDTH, at[*from].1 + HEIGHT / 2);
            let (x2, y2) = (at[*to].0, at[*to].1 + HEIGHT / 2);
            let middle = x1.midpoint(x2);
            let _ = writeln!(
                text,
                "<path d=\"M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}\" fill=\"none\" stroke=\"#9aa4b2\" stroke-width=\"1.2\"><title>{} -> {}: {}</title></path>",
                escaped(&self.cards[*from].name),
                escaped(&self.cards[*to].name),
                escaped(names)
            );
        }
        for (card, (x, y)) in self.cards.iter().zip(&at) {
            let _ = writeln!(
                text,
                "<g><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"7\" fill=\"{}\" stroke=\"#5b6b7f\"/><text x=\"{}\" y=\"{}\" font-size=\"12.5\" font-weight=\"600\" fill=\"#1b2733\">{}</text><text x=\"{}\" y=\"{}\" font-size=\"10.5\" fill=\"#4a5a6b\">{}</text></g>",
                card.colour(),
                x + 10,
                y + 19,
                escaped(&card.title()),
                x + 10,
                y + 34,
                escaped(&card.stage)
            );
        }
        text.push_str("</svg>\n");
        text
    }

    fn columns(&self) -> Vec<Vec<usize>> {
        let n = self.cards.iter().map(|card| card.layer + 1).max();
        let mut columns: Vec<Vec<usize>> = vec![Vec::new(); n.unwrap_or(0)];
        for (index, card) in self.cards.iter().enumerate() {
            columns[card.layer].push(index);
        }
        let mut place = vec![0.0; self.cards.len()];
        for column in &mut columns {
            let mean = |card: usize| -> f64 {
                let read = self.arrows.iter().filter(|(_, to, _)| *to == card);
                let (sum, n) = read.fold((0.0, 0.0), |(sum, n), (from, _, _)| {
                    (sum + place[*from], n + 1.0)
                });
                if n > 0.0 { sum / n } else { 0.0 }
            };
            let mut keyed: Vec<(f64, usize)> =
                column.iter().map(|&card| (mean(card), card)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut next = 0.0;
            for (slot, (_, card)) in column.iter_mut().zip(keyed) {
                *slot = card;
                place[card] = next;
                next += 1.0;
            }
        }
        columns
    }
}

impl Card {
    /// Its name, and how many elements it stands for.
    fn title(&self) -> String {
        match (self.n_elements, self.n_not_applicable) {
            (0 | 1, _) => self.name.clone(),
            (n, 0) => format!("{} x {n}", self.name),
            (n, gone) => format!("{} x {} of {n}", self.name, n - gone),
        }
    }

    fn colour(&self) -> &'static str {
        match self.stage.as_str() {
            "ingest" => "#e8eef7",
            "preprocess" => "#e3f1ee",
            "split" => "#eef3df",
            "train" => "#fbf0d9",
            "estimate" => "#f9e5dc",
            "evaluate" => "#f3e2ef",
            "report" => "#e9e4f5",
            _ => "#f2f2f2",
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
