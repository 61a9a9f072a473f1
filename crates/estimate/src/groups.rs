//! Scores of groups of samples, and which groups stand out.
//!
//! With n scored samples of group g, their mean m, and the mean c of all scored samples, the distance
//! of the group is t = sqrt(n) (m - c): were scores independent of groups, its spread would not depend
//! on the size of a group. Then z = (t - median of t) / (1.4826 x median absolute deviation of t), over
//! the groups of the unit that are large enough: the modified z-score of Iglewicz and Hoaglin, "How to
//! Detect and Handle Outliers", 1993, whose threshold is 3.5. Where more than half of the distances are
//! equal there is no deviation, and no z.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stage::{Exit, Failure, Io};
use tables::{ScoreGroup, Suspect, Tier};

use crate::context::Context;
use crate::scored::Scored;

/// The standard deviation of a normal distribution, as a multiple of its median absolute deviation.
const DEVIATION: f64 = 1.4826;

/// Fewest groups whose spread says anything.
const FEWEST_GROUPS: usize = 3;

/// Which groups, and when they stand out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Groups {
    /// What groups are made by; left out: all that the wired inputs know of.
    pub units: Option<Vec<Unit>>,
    /// Fewest scored samples of a group that is judged.
    pub at_least: u64,
    /// Absolute z beyond which a group stands out.
    pub threshold: f64,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            units: None,
            at_least: 5,
            threshold: 3.5,
        }
    }
}

impl Groups {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let wrong = |message: String| Failure::new(Exit::Configuration, message);
        if self.at_least == 0 {
            return Err(wrong(
                "`groups.at_least` is 0: a group without scores has no mean".to_owned(),
            )
            .hint("write a number from 1 up, such as 5"));
        }
        if !(self.threshold.is_finite() && self.threshold > 0.0) {
            let found = self.threshold;
            return Err(wrong(format!(
                "`groups.threshold` is {found}, wanted a number above 0"
            )));
        }
        if self.units.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong("`groups.units` names no unit".to_owned())
                .hint("write `units: [user, item]`, or leave it out"));
        }
        Ok(())
    }
}

/// What groups are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The user whose event the sample is.
    User,
    /// The target item.
    Item,
    /// The category of the target item, its whole path.
    Category,
    /// The brand of the target item.
    Brand,
    /// What was done.
    Event,
}

impl Unit {
    const ALL: [Self; 5] = [
        Self::User,
        Self::Item,
        Self::Category,
        Self::Brand,
        Self::Event,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Item => "item",
            Self::Category => "category",
            Self::Brand => "brand",
            Self::Event => "event",
        }
    }

    /// The input that knows of it; `None` where the probe does.
    const fn needs(self) -> Option<&'static str> {
        match self {
            Self::User | Self::Item => None,
            Self::Category | Self::Brand => Some("item_features"),
            Self::Event => Some("samples"),
        }
    }
}

/// One group: its number where it has one, its name, and the rows of its samples.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    key: String,
    name: Option<String>,
    rows: Vec<usize>,
}

/// Writes the table of groups.
pub(crate) fn write(
    io: &Io,
    groups: &Groups,
    scored: &Scored,
    tiers: &[Tier],
    context: &Context<'_>,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for unit in Unit::ALL {
        let is_known = unit.needs().is_none_or(|role| io.optional(role).is_some());
        match &groups.units {
            Some(units) if !units.contains(&unit) => continue,
            Some(_) if !is_known => return Err(unknown(unit)),
            None if !is_known => continue,
            _ => {}
        }
        let members = members(unit, scored, context);
        rows.extend(judge(groups, unit, &members, scored, tiers));
    }
    tables::write_all(&io.output("groups")?, rows).map_err(Failure::environment)?;
    Ok(())
}

fn unknown(unit: Unit) -> Failure {
    let (unit, role) = (unit.as_str(), unit.needs().unwrap_or("probe"));
    Failure::new(
        Exit::Configuration,
        format!("groups by {unit} need the input `{role}`"),
    )
    .hint(format!(
        "wire `{role}` of a `split` node, or leave `{unit}` out of `groups.units`"
    ))
}

/// The groups of a unit, by number or name; samples that belong to none are left out.
fn members(unit: Unit, scored: &Scored, context: &Context<'_>) -> Vec<Group> {
    let samples = context.samples;
    match unit {
        Unit::User => numbered(scored, |at| samples.sequence[at], |key| context.user(key)),
        Unit::Item => numbered(scored, |at| samples.item[at], |key| context.item(key)),
        Unit::Category => named(scored, |at| context.category(samples.item[at])),
        Unit::Brand => named(scored, |at| context.brand(samples.item[at])),
        Unit::Event => named(scored, |at| context.event(at)),
    }
}

fn numbered(
    scored: &Scored,
    key_of: impl Fn(usize) -> u32,
    name_of: impl Fn(u32) -> Option<String>,
) -> Vec<Group> {
    let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
    for (row, &at) in scored.position.iter().enumerate() {
        groups.entry(key_of(at)).or_default().rows.push(row);
    }
    let named = groups.into_iter().map(|(key, group)| Group {
        key: key.to_string(),
        name: name_of(key),
        ..group
    });
    named.collect()
}

fn named<'n>(scored: &Scored, name_of: impl Fn(usize) -> Option<&'n str>) -> Vec<Group> {
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for (row, &at) in scored.position.iter().enumerate() {
        if let Some(name) = name_of(at) {
            groups.entry(name).or_default().rows.push(row);
        }
    }
    let named = groups.into_iter().map(|(name, group)| Group {
        key: name.to_owned(),
        name: Some(name.to_owned()),
        ..group
    });
    named.collect()
}

/// One row for each group, from the suspicious end on. Sums run in ascending order of samples.
fn judge(
    groups: &Groups,
    unit: Unit,
    members: &[Group],
    scored: &Scored,
    tiers: &[Tier],
) -> Vec<ScoreGroup> {
    let n_all = scored.rows().count();
    let sum_all: f64 = scored.score.iter().flatten().sum();
    let centre = sum_all / n_all as f64;
    let mut distances = Vec::new();
    let mut rows: Vec<ScoreGroup> = members
        .iter()
        .map(|group| {
            let scores = group.rows.iter().filter_map(|&row| scored.score[row]);
            let n_scored = scores.clone().count();
            let n = n_scored as f64;
            let sum = (n_scored > 0).then(|| scores.sum::<f64>());
            let mean = sum.map(|sum| sum / n);
            let n_low = group.rows.iter().filter(|&&row| tiers[row] == Tier::Low);
            let n_low = n_low.count() as f64;
            let is_judged = n_scored as u64 >= groups.at_least;
            distances.push(mean.filter(|_| is_judged).map(|mean| {
                let distance = n.sqrt() * (mean - centre);
                match scored.suspect {
                    Suspect::Low => distance,
                    Suspect::High => -distance,
                }
            }));
            ScoreGroup {
                method: scored.method.to_owned(),
                unit: unit.as_str().to_owned(),
                key: group.key.clone(),
                name: group.name.clone(),
                n_samples: group.rows.len() as u64,
                n_scored: n_scored as u64,
                sum,
                mean,
                low_frac: sum.map(|_| n_low / n),
                z: None,
                is_anomalous: false,
            }
        })
        .collect();
    for (row, z) in rows.iter_mut().zip(robust_z(&distances)) {
        row.z = z;
        row.is_anomalous = z.is_some_and(|z| z.abs() > groups.threshold);
    }
    // Stable: the rest stays in the order of keys.
    rows.sort_by(|a, b| match (a.z, b.z) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    });
    rows
}

/// Distances from their median in robust standard deviations.
fn robust_z(distances: &[Option<f64>]) -> Vec<Option<f64>> {
    let nothing = || vec![None; distances.len()];
    let known: Vec<f64> = distances.iter().flatten().copied().collect();
    if known.len() < FEWEST_GROUPS {
        return nothing();
    }
    let Some(centre) = median(known.clone()) else {
        return nothing();
    };
    let spread = known.iter().map(|distance| (distance - centre).abs());
    match median(spread.collect()) {
        Some(spread) if spread > 0.0 => distances
            .iter()
            .map(|distance| distance.map(|distance| (distance - centre) / (DEVIATION * spread)))
            .collect(),
        _ => nothing(),
    }
}

/// The middle value, or the mean of the two in the middle; `None` without values.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    metrics::quantile(&values, 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::Tiers;

    fn group(key: u32, rows: &[usize]) -> Group {
        Group {
            key: key.to_string(),
            name: None,
            rows: rows.to_vec(),
        }
    }

    fn judged(members: &[Group], scored: &Scored, at_least: u64) -> Vec<ScoreGroup> {
        let groups = Groups {
            at_least,
            ..Groups::default()
        };
        let tiers = Tiers::DEFAULT.assign(scored).unwrap();
        judge(&groups, Unit::User, members, scored, &tiers)
    }

    #[test]
    fn sums_means_and_shares_by_hand() {
        let scores = [Some(-3.0), Some(1.0), None, Some(2.0), Some(4.0), None];
        let scored = Scored::of(&scores, Suspect::Low);
        let members = [group(0, &[0, 1, 2]), group(1, &[3, 4]), group(2, &[5])];
        let found = judged(&members, &scored, 1);
        let numbers: Vec<_> = found
            .iter()
            .map(|row| (row.n_samples, row.n_scored, row.sum, row.mean, row.low_frac))
            .collect();
        // 0.2 of four samples is 0.8: the middle of the lowest one's place is 0.5.
        assert_eq!(
            numbers,
            [
                (3, 2, Some(-2.0), Some(-1.0), Some(0.5)),
                (2, 2, Some(6.0), Some(3.0), Some(0.0)),
                (1, 0, None, None, None),
            ]
        );
        // Two groups have no spread that says anything.
        assert!(found.iter().all(|row| row.z.is_none() && !row.is_anomalous));
        assert!(judged(&[], &Scored::of(&[], Suspect::Low), 1).is_empty());
    }

    #[test]
    fn z_by_hand_and_turned_for_magnitudes() {
        // Means -20, -1, 0, 1, 2 of single samples; their mean is -3.6, their median 0 and the
        // median deviation 1.
        let scores = [2.0, -1.0, 0.0, 1.0, -20.0].map(Some);
        let members: Vec<Group> = (0..)
            .zip(0..5)
            .map(|(key, row)| group(key, &[row]))
            .collect();
        for (suspect, keys, sign) in [
            (Suspect::Low, ["4", "1", "2", "3", "0"], 1.0),
            (Suspect::High, ["0", "3", "2", "1", "4"], -1.0),
        ] {
            let found = judged(&members, &Scored::of(&scores, suspect), 1);
            let order: Vec<&str> = found.iter().map(|row| row.key.as_str()).collect();
            assert_eq!(order, keys);
            for row in &found {
                let wanted = sign * row.mean.unwrap() / 1.4826;
                // A few operations on numbers of about 10.
                assert!((row.z.unwrap() - wanted).abs() < 1e-13);
                assert_eq!(row.is_anomalous, row.key == "4");
            }
        }
    }

    #[test]
    fn small_groups_are_not_judged_and_equal_ones_have_no_z() {
        let scores = [1.0, 1.0, 1.0, -5.0, 3.0, 3.0].map(Some);
        let scored = Scored::of(&scores, Suspect::Low);
        let members = [
            group(0, &[0, 1]),
            group(1, &[2]),
            group(2, &[3, 4]),
            group(3, &[5, 0]),
        ];
        let found = judged(&members, &scored, 2);
        assert_eq!(found.iter().filter(|row| row.z.is_some()).count(), 3);
        assert_eq!(found[3].key, "1");
        let constant = Scored::of(&[Some(0.5); 6], Suspect::Low);
        let found = judged(&members, &constant, 1);
        assert!(found.iter().all(|row| row.z.is_none()));
        let keys: Vec<&str> = found.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys, ["0", "1", "2", "3"]);
    }

    #[test]
    fn size_alone_makes_no_anomaly() {
        // Scores without any connection to groups of very different sizes.
        let mut draws = attribution::Seed::root(4).sequence();
        let scores: Vec<Option<f64>> = (0..6000).map(|_| Some(draws.uniform())).collect();
        let mut members = Vec::new();
        let mut next = 0;
        for key in 0..60 {
            let size = if key % 2 == 0 { 10 } else { 190 };
            let rows: Vec<usize> = (next..next + size).collect();
            members.push(group(key, &rows));
            next += size;
        }
        let found = judged(&members, &Scored::of(&scores, Suspect::Low), 5);
        // 60 normal numbers beyond 3.5 deviations: once in 36 such tests, and the seed is fixed.
        assert!(found.iter().all(|row| !row.is_anomalous));
        let spread = |is_large: bool| {
            let of_size = found.iter().filter(|row| (row.n_samples > 10) == is_large);
            let squares: f64 = of_size.map(|row| row.z.unwrap().powi(2)).sum();
            (squares / 30.0).sqrt()
        };
        // Deviations from 30 numbers each are known to about 13 %; three of those.
        let (small, large) = (spread(false), spread(true));
        assert!((0.55..1.8).contains(&(small / large)), "{small} {large}");
    }
}
