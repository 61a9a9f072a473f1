//! How well scores find what was planted and what the simulator knows of, beside random and loss.

use metrics::{Figures, LANES, MetricError, Strata, Suspects, holm, interval};
use rayon::prelude::*;
use stage::{Failure, Label, Seed};
use tables::{Metric, Part};

use crate::Config;
use crate::action::AT_RANDOM;
use crate::figures::spread;
use crate::group::Group;
use crate::scored::{Scored, Universe};

/// Draws that one bootstrap may cost; beyond, there are fewer resamples.
const MAX_DRAWS: u64 = 2_000_000_000;

/// Fewest resamples, however many samples there are.
const MIN_RESAMPLES: u64 = 100;

/// Place of the AUROC among the figures.
const AUROC: usize = 0;

/// Method that is the loss alone.
const LOSS: &str = "loss";

/// Who knows that a sample is noisy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `split`, which planted it.
    Planted,
    /// The simulator, which made the event.
    Simulator,
}

/// Segments of noise that the simulator knows of start with this.
pub(crate) const TRUTH: &str = "truth.";

impl Source {
    /// What such a sample is called.
    fn noun(self) -> &'static str {
        match self {
            Self::Planted => "planted",
            Self::Simulator => "noisy by the simulator's own account",
        }
    }

    /// The metric that holds the share of such samples.
    fn share(self) -> &'static str {
        match self {
            Self::Planted => "planted_frac",
            Self::Simulator => "truth_frac",
        }
    }
}

/// Which samples are noisy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise<'a> {
    pub(crate) source: Source,
    /// Kind of each sample, as an index into `kinds`; `None` for genuine ones.
    pub(crate) kind: &'a [Option<usize>],
    /// Whether a sample is left out of every figure.
    pub(crate) is_aside: Option<&'a [bool]>,
    /// Kinds that occur, ascending.
    pub(crate) kinds: &'a [String],
    /// Node that knows; `None` if nothing is known.
    pub(crate) node: Option<&'a str>,
}

impl<'a> Noise<'a> {
    /// What was planted in a universe.
    pub(crate) fn planted(universe: &'a Universe) -> Self {
        Self {
            source: Source::Planted,
            kind: &universe.planted,
            is_aside: None,
            kinds: &universe.kinds,
            node: universe.node.as_deref(),
        }
    }

    /// The segments with their kinds: everything planted and each kind where there are several;
    /// kind by kind for the simulator, whose bots and accidents have nothing in common.
    fn segments(&self) -> Vec<(String, Option<usize>)> {
        let kinds = (0..).zip(self.kinds);
        let each = kinds.map(|(index, kind)| match self.source {
            Source::Planted => (kind.clone(), Some(index)),
            Source::Simulator => (format!("{TRUTH}{kind}"), Some(index)),
        });
        match self.source {
            Source::Planted => {
                let each = each.filter(|_| self.kinds.len() > 1);
                std::iter::once(("all".to_owned(), None))
                    .chain(each)
                    .collect()
            }
            Source::Simulator => each.collect(),
        }
    }
}

/// The figures of one group on one set of samples.
struct Judged {
    /// Own figures, averaged over seeds.
    values: [f64; 7],
    /// Figures of each seed.
    by_seed: Vec<[f64; 7]>,
    /// Figures of each resample, averaged over seeds.
    resampled: Vec<[f64; 7]>,
    /// P-value of the AUROC before correction.
    p_value: f64,
    n_unscored: f64,
}

/// The rows of the family `detection`: nothing of segments without noisy or genuine samples.
pub(crate) fn evaluate(
    noise: Noise<'_>,
    scores: &Scored,
    seed: Seed,
    config: &Config,
) -> Result<Vec<Metric>, Failure> {
    let mut rows = Vec::new();
    if scores.groups.is_empty() {
        return Ok(rows);
    }
    for (segment, kind) in noise.segments() {
        rows.extend(of_segment(noise, scores, &segment, kind, seed, config)?);
    }
    Ok(rows)
}

fn of_segment(
    noise: Noise<'_>,
    scores: &Scored,
    segment: &str,
    kind: Option<usize>,
    seed: Seed,
    config: &Config,
) -> Result<Vec<Metric>, Failure> {
    // One kind is told from genuine samples; samples of other kinds are set aside.
    let kept: Vec<usize> = (0..noise.kind.len())
        .filter(|&sample| noise.is_aside.is_none_or(|aside| !aside[sample]))
        .filter(|&sample| noise.kind[sample].is_none_or(|own| kind.is_none_or(|kind| kind == own)))
        .collect();
    let is_noisy: Vec<bool> = kept
        .iter()
        .map(|&sample| noise.kind[sample].is_some())
        .collect();
    let n = kept.len() as u64;
    let n_noisy = is_noisy.iter().filter(|&&noisy| noisy).count();
    if n_noisy == 0 || n_noisy == kept.len() {
        return Ok(Vec::new());
    }
    let resamples = config
        .resamples
        .min((MAX_DRAWS / n.max(1)).max(MIN_RESAMPLES));
    let seed = seed.child("bootstrap_samples").child(segment);
    let judged = judge(scores, &kept, &is_noisy, seed, resamples)?;

    let about = About {
        segment,
        n,
        resamples,
        noun: noise.source.noun(),
        sides: format!(
            "{n_noisy} {} among {n} samples{}",
            noise.source.noun(),
            match (noise.source, kind) {
                (Source::Simulator, _) => ", other kinds and planted samples set aside",
                (Source::Planted, Some(_)) => ", other kinds set aside",
                (Source::Planted, None) => "",
            }
        ),
    };
    let mut rows = Vec::new();
    if let Some(node) = noise.node {
        let nobody = Group::of([&Label::default()], node);
        rows.extend(nobody.iter().map(|group| Metric {
            value: n_noisy as f64 / n as f64,
            protocol: format!("{}: the precision of a random order", about.sides),
            ..about.row(group, noise.source.share().to_owned())
        }));
    }
    let corrected = holm(
        &judged
            .iter()
            .map(|judged| judged.p_value)
            .collect::<Vec<_>>(),
    );
    for (index, group) in scores.groups.iter().enumerate() {
        rows.extend(own(
            group,
            &judged[index],
            corrected[index],
            judged.len(),
            &about,
        ));
        rows.extend(compared(scores, &judged, index, &about));
    }
    Ok(rows)
}

/// The set of samples that figures are about.
struct About<'a> {
    segment: &'a str,
    n: u64,
    resamples: u64,
    /// What a noisy sample is called.
    noun: &'static str,
    /// How many are noisy, in words.
    sides: String,
}

impl About<'_> {
    fn row(&self, group: &Group, metric: String) -> Metric {
        Metric {
            n: self.n,
            ..group.row("detection", metric, Part::Training.as_str(), self.segment)
        }
    }
}

/// The figures of one group.
fn own(
    group: &Group,
    judged: &Judged,
    corrected: f64,
    n_tests: usize,
    about: &About<'_>,
) -> Vec<Metric> {
    let mut rows = Vec::new();
    for (column, metric) in Figures::NAMES.iter().enumerate() {
        let interval = interval(
            judged
                .resampled
                .iter()
                .map(|values| values[column])
                .collect(),
        );
        let is_tested = column == AUROC;
        let tested = if is_tested {
            format!("; two-sided rank-sum test against .5, Holm over {n_tests} scores")
        } else {
            String::new()
        };
        rows.push(Metric {
            value: judged.values[column],
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            p_value: is_tested.then_some(corrected),
            protocol: format!(
                "{}; {}; ties never broken, unscored samples take the median suspicion; 95 % percentile \
                 bootstrap over samples, {} and genuine apart ({} resamples){tested}",
                meaning(metric),
                about.sides,
                about.noun,
                about.resamples
            ),
            ..about.row(group, (*metric).to_owned())
        });
        let by_seed: Vec<f64> = judged.by_seed.iter().map(|values| values[column]).collect();
        if let Some(spread) = spread(&by_seed) {
            rows.push(Metric {
                value: spread,
                n: by_seed.len() as u64,
                protocol: "standard deviation over seeds; n counts seeds".to_owned(),
                ..about.row(group, format!("{metric}_seed_std"))
            });
        }
    }
    rows.push(Metric {
        value: judged.n_unscored / about.n as f64,
        protocol: "share of the samples that the method cannot score".to_owned(),
        ..about.row(group, "unscored_frac".to_owned())
    });
    rows
}

/// Paired differences of one group's AUROC from those of random, loss and the best.
fn compared(scores: &Scored, judged: &[Judged], index: usize, about: &About<'_>) -> Vec<Metric> {
    let group = &scores.groups[index];
    let own = &judged[index];
    let auroc = |index: usize| judged[index].values[AUROC];
    // The first of several.
    let best = (0..judged.len()).reduce(|best, other| {
        if auroc(other) > auroc(best) {
            other
        } else {
            best
        }
    });
    let mut rows = Vec::new();
    for (name, other) in [
        ("auroc_vs_random", reference(scores, index, AT_RANDOM)),
        ("auroc_vs_loss", reference(scores, index, LOSS)),
        ("auroc_vs_best", best.filter(|&best| best != index)),
    ] {
        let Some(other) = other else { continue };
        let pairs = own.resampled.iter().zip(&judged[other].resampled);
        let interval = interval(
            pairs
                .map(|(own, other)| own[AUROC] - other[AUROC])
                .collect(),
        );
        rows.push(Metric {
            value: auroc(index) - auroc(other),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            label: group.versus(&scores.groups[other]),
            protocol: format!(
                "AUROC of this method minus that of the other on the same resamples; {}",
                about.sides
            ),
            ..about.row(group, name.to_owned())
        });
    }
    rows
}

/// The group of a reference method that shares the axes of a group; nothing for itself.
fn reference(scores: &Scored, of: usize, method: &str) -> Option<usize> {
    let group = &scores.groups[of];
    if group.method.as_deref() == Some(method) {
        return None;
    }
    let fits = |other: &&usize| {
        let other = &scores.groups[**other];
        other.method.as_deref() == Some(method) && group.shares_axes(other, &["method"])
    };
    let all: Vec<usize> = (0..scores.groups.len()).collect();
    let of_node = all
        .iter()
        .find(|other| scores.groups[**other].node == group.node && fits(other));
    of_node.or_else(|| all.iter().find(fits)).copied()
}

/// Judges all groups on the kept samples; every resample is drawn once for all of them.
fn judge(
    scores: &Scored,
    kept: &[usize],
    is_noisy: &[bool],
    seed: Seed,
    resamples: u64,
) -> Result<Vec<Judged>, Failure> {
    let suspects: Vec<Suspects> = scores
        .suspicion
        .par_iter()
        .map(|suspicion| {
            let suspicion: Vec<Option<f64>> =
                kept.iter().map(|&sample| suspicion[sample]).collect();
            Suspects::new(&suspicion, is_noisy)
        })
        .collect::<Result<_, MetricError>>()
        .map_err(Failure::bug)?;
    let strata = Strata::new(is_noisy, seed);
    let batches: Vec<u64> = (0..resamples.div_ceil(LANES as u64))
        .map(|batch| batch * LANES as u64)
        .collect();
    // By batch, input and lane.
    let resampled: Vec<Vec<[Figures; LANES]>> = batches
        .par_iter()
        .map(|&first| {
            let weights = strata.weights(first);
            suspects
                .iter()
                .map(|suspects| suspects.resampled(&weights))
                .collect()
        })
        .collect::<Result<_, MetricError>>()
        .map_err(Failure::bug)?;
    let judged = scores.groups.iter().map(|group| {
        let by_seed: Vec<[f64; 7]> = group
            .members
            .iter()
            .map(|&input| suspects[input].figures().values())
            .collect();
        let mut each = Vec::new();
        for (batch, first) in resampled.iter().zip(&batches) {
            let n_lanes = (resamples - first).min(LANES as u64);
            for (lane, _) in (0..LANES).zip(0..n_lanes) {
                let replicates: Vec<[f64; 7]> = group
                    .members
                    .iter()
                    .map(|&input| batch[input][lane].values())
                    .collect();
                each.push(average(&replicates));
            }
        }
        let values = average(&by_seed);
        let n_unscored: u64 = group
            .members
            .iter()
            .map(|&input| suspects[input].n_unscored())
            .sum();
        Judged {
            p_value: suspects[group.members[0]].p_value(values[AUROC]),
            n_unscored: n_unscored as f64 / group.members.len() as f64,
            values,
            by_seed,
            resampled: each,
        }
    });
    Ok(judged.collect())
}

fn average(rows: &[[f64; 7]]) -> [f64; 7] {
    std::array::from_fn(|column| {
        rows.iter().map(|row| row[column]).sum::<f64>() / rows.len() as f64
    })
}

fn meaning(metric: &str) -> &'static str {
    match metric {
        "auroc" => "area under the ROC curve of suspicion, mid-ranks",
        "average_precision" => "average precision over distinct thresholds",
        "f1_2means" => {
            "F1 of the suspicious cluster of the exact 1-D 2-means split (threshold fixed in the bootstrap)"
        }
        "precision@1x" => "noisy share of the most suspicious samples, as many as are noisy",
        "recall@1x" => "share of the noisy among the most suspicious samples, as many as are noisy",
        "precision@2x" => "noisy share of the most suspicious samples, twice as many as are noisy",
        "recall@2x" => {
            "share of the noisy among the most suspicious samples, twice as many as are noisy"
        }
        _ => "",
    }
}
