//! What nodes cost when they ran, gathered, with sentences about it. Everything here is measured:
//! it lies apart from `metrics` and `conclusions`, which are equal between two runs.

use std::collections::BTreeMap;

use stage::{Failure, Io, Label};
use tables::{Conclusion, Measured};

use crate::text::{count, list};
use crate::write;

/// Writes `measured.parquet` and `conclusions.parquet` into the output `costs`.
pub(crate) fn gather(io: &Io) -> Result<(), Failure> {
    let mut rows: Vec<Measured> = Vec::new();
    for input in io.many("measured") {
        rows.extend(tables::read_all::<Measured>(&input.path).map_err(Failure::data)?);
    }
    rows.sort_by(|a, b| (&a.node, &a.label).cmp(&(&b.node, &b.label)));
    // One artifact can be reached over two edges.
    rows.dedup();
    let directory = io.output("costs")?;
    write(&directory, sentences(&rows))?;
    write(&directory, rows)
}

fn sentences(rows: &[Measured]) -> Vec<Conclusion> {
    let mut sentences = Vec::new();
    let mut push = |text: String, evidence: String| {
        sentences.push(Conclusion {
            rank: u32::try_from(sentences.len()).unwrap_or(u32::MAX),
            topic: "cost".to_owned(),
            text,
            evidence,
        });
    };
    let evidence = |rows: &[&Measured]| {
        let parts: Vec<String> = rows
            .iter()
            .map(|row| format!("wall_ms@{}={}", row.node, row.wall_ms))
            .collect();
        parts.join("; ")
    };
    let all: Vec<&Measured> = rows.iter().collect();
    let (Some(slowest), Some(largest)) = (
        rows.iter().max_by_key(|row| row.wall_ms),
        rows.iter().max_by_key(|row| row.peak_bytes),
    ) else {
        return sentences;
    };
    push(
        format!(
            "{} nodes took {} one after the other ({} of CPU time); the longest was `{}` with {}, and `{}` needed most memory, {} MiB.",
            count(rows.len() as u64),
            duration(all.iter().map(|row| row.wall_ms).sum()),
            duration(all.iter().map(|row| row.cpu_ms).sum()),
            slowest.node,
            duration(slowest.wall_ms),
            largest.node,
            count(largest.peak_bytes.div_ceil(1 << 20))
        ),
        evidence(&all),
    );
    // Estimation by method: the mean over whatever else differs.
    let mut by_method: BTreeMap<String, Vec<&Measured>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.stage == "estimate") {
        let label = Label::parse(&row.label).unwrap_or_default();
        let name = label.get("method").unwrap_or(&row.node).to_owned();
        by_method.entry(name).or_default().push(row);
    }
    if !by_method.is_empty() {
        let mut means: Vec<(u64, String)> = by_method
            .iter()
            .map(|(name, rows)| {
                let sum: u64 = rows.iter().map(|row| row.wall_ms).sum();
                (sum / rows.len() as u64, format!("`{name}`"))
            })
            .collect();
        means.sort_by(|a, b| b.cmp(a));
        let parts: Vec<String> = means
            .iter()
            .map(|(wall, name)| format!("{name} {}", duration(*wall)))
            .collect();
        let behind: Vec<&Measured> = by_method.into_values().flatten().collect();
        push(
            format!("Estimating took, by method: {}.", list(&parts)),
            evidence(&behind),
        );
    }
    let trained: Vec<&Measured> = rows.iter().filter(|row| row.stage == "train").collect();
    if !trained.is_empty() {
        let wall: u64 = trained.iter().map(|row| row.wall_ms).sum();
        push(
            format!(
                "Training, ranking and probing took {} in {} runs of `train`, {} each on average.",
                duration(wall),
                count(trained.len() as u64),
                duration(wall / trained.len() as u64)
            ),
            evidence(&trained),
        );
    }
    sentences
}

/// A time span in the unit that suits it.
fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..3_600_000 => format!("{:.1} min", ms as f64 / 6e4),
        _ => format!("{:.1} h", ms as f64 / 3.6e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: &str, stage: &str, label: &str, wall_ms: u64) -> Measured {
        Measured {
            node: node.to_owned(),
            stage: stage.to_owned(),
            label: label.to_owned(),
            wall_ms,
            cpu_ms: wall_ms / 2,
            peak_bytes: wall_ms << 20,
            threads: 2,
            processor: "test".to_owned(),
        }
    }

    #[test]
    fn costs_are_told_by_method() {
        let rows = [
            row("model[markov]", "train", "model=markov", 500),
            row("score[loss]", "estimate", "method=loss", 100),
            row(
                "score[knn_shapley]",
                "estimate",
                "method=knn_shapley",
                90_000,
            ),
        ];
        let found = sentences(&rows);
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[0].text,
            "3 nodes took 1.5 min one after the other (45.3 s of CPU time); the longest was \
             `score[knn_shapley]` with 1.5 min, and `score[knn_shapley]` needed most memory, 90,000 MiB."
        );
        assert_eq!(
            found[1].text,
            "Estimating took, by method: `knn_shapley` 1.5 min and `loss` 100 ms."
        );
        assert_eq!(
            found[1].evidence,
            "wall_ms@score[knn_shapley]=90000; wall_ms@score[loss]=100"
        );
        assert!(sentences(&[]).is_empty());
    }
}
