//! What `estimate` makes of scores, read in passing: tables of tiers and groups are as long as the
//! training data, and a report shows their ends.

use stage::{Failure, Io, Label};
use tables::{
    FeatureImportance, FeatureWeight, Influence, SampleTier, ScoreGroup, Sensitivity, Tier,
};

/// Groups shown at each end of a unit.
const OUTERMOST: usize = 5;

/// Requests shown of each method.
const REQUESTS: usize = 5;

/// Samples shown at each end of a request.
const SAMPLES: u32 = 3;

/// What was made of scores.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    /// Tiers by method.
    pub(crate) tiers: Vec<Tiered>,
    /// Groups by method and unit.
    pub(crate) groups: Vec<OfUnit>,
    /// The outermost samples of some requests, with the places of their methods.
    pub(crate) influences: Vec<(Label, Influence)>,
    /// Settings that were tried, with the places of their methods.
    pub(crate) sensitivity: Vec<(Label, Sensitivity)>,
    /// Importance of features, with the places of their methods.
    pub(crate) features: Vec<(Label, FeatureImportance)>,
    /// What acting multiplied features with, by arm.
    pub(crate) feature_weights: Vec<(Label, FeatureWeight)>,
}

/// The tiers of one method.
#[derive(Clone, Debug)]
pub(crate) struct Tiered {
    /// Place on the axes; `node` among them.
    pub(crate) label: Label,
    /// The method.
    pub(crate) method: String,
    /// A count for each tier that has samples.
    pub(crate) counts: Vec<TierCount>,
}

/// One tier.
#[derive(Clone, Debug)]
pub(crate) struct TierCount {
    /// Which.
    pub(crate) tier: Tier,
    /// Samples.
    pub(crate) n: u64,
    /// Lowest score.
    pub(crate) lowest: Option<f64>,
    /// Highest score.
    pub(crate) highest: Option<f64>,
}

/// The groups of one unit, by one method.
#[derive(Clone, Debug)]
pub(crate) struct OfUnit {
    /// Place on the axes; `node` among them.
    pub(crate) label: Label,
    /// The method.
    pub(crate) method: String,
    /// What groups are made by.
    pub(crate) unit: String,
    /// Groups.
    pub(crate) n: u64,
    /// Groups that are large enough.
    pub(crate) n_judged: u64,
    /// Groups that stand out at the suspicious end.
    pub(crate) n_suspicious: u64,
    /// Groups that stand out at the other end.
    pub(crate) n_helpful: u64,
    /// Some at the suspicious end, then some at the other.
    pub(crate) outermost: Vec<ScoreGroup>,
}

impl Results {
    /// Reads what was wired.
    ///
    /// # Errors
    /// If a table is missing or damaged.
    pub(crate) fn read(io: &Io) -> Result<Self, Failure> {
        let mut results = Self::default();
        for input in io.many("tiers") {
            for row in tables::rows::<SampleTier>(&input.path).map_err(Failure::data)? {
                results.add_tier(&input.label, row.map_err(Failure::data)?);
            }
        }
        for input in io.many("groups") {
            let mut judged: Vec<ScoreGroup> = Vec::new();
            for row in tables::rows::<ScoreGroup>(&input.path).map_err(Failure::data)? {
                let row = row.map_err(Failure::data)?;
                if judged.first().is_some_and(|first| first.unit != row.unit) {
                    results.close(std::mem::take(&mut judged));
                }
                if results.count_group(&input.label, &row) {
                    judged.push(row);
                }
            }
            results.close(judged);
        }
        for input in io.many("sensitivity") {
            let rows: Vec<Sensitivity> = tables::read_all(&input.path).map_err(Failure::data)?;
            let rows = rows.into_iter().map(|row| (input.label.clone(), row));
            results.sensitivity.extend(rows);
        }
        for input in io.many("influences") {
            let mut requests: Vec<u32> = Vec::new();
            for row in tables::rows::<Influence>(&input.path).map_err(Failure::data)? {
                let row = row.map_err(Failure::data)?;
                if requests.last() != Some(&row.request) {
                    requests.push(row.request);
                }
                if requests.len() > REQUESTS {
                    break;
                }
                if row.rank < SAMPLES {
                    results.influences.push((input.label.clone(), row));
                }
            }
        }
        for input in io.many("feature_importance") {
            let rows: Vec<FeatureImportance> =
                tables::read_all(&input.path).map_err(Failure::data)?;
            let rows = rows.into_iter().map(|row| (input.label.clone(), row));
            results.features.extend(rows);
        }
        for input in io.many("feature_weights") {
            let rows: Vec<FeatureWeight> = tables::read_all(&input.path).map_err(Failure::data)?;
            let rows = rows.into_iter().map(|row| (input.label.clone(), row));
            results.feature_weights.extend(rows);
        }
        Ok(results)
    }

    fn add_tier(&mut self, label: &Label, row: SampleTier) {
        let is_its = |tiered: &Tiered| tiered.label == *label && tiered.method == row.method;
        if !self.tiers.last().is_some_and(is_its) {
            self.tiers.push(Tiered {
                label: label.clone(),
                method: row.method,
                counts: Vec::new(),
            });
        }
        let Some(tiered) = self.tiers.last_mut() else {
            return;
        };
        let at = tiered.counts.partition_point(|count| count.tier < row.tier);
        if tiered
            .counts
            .get(at)
            .is_none_or(|count| count.tier != row.tier)
        {
            let count = TierCount {
                tier: row.tier,
                n: 0,
                lowest: None,
                highest: None,
            };
            tiered.counts.insert(at, count);
        }
        let count = &mut tiered.counts[at];
        count.n += 1;
        if let Some(score) = row.score {
            count.lowest = Some(count.lowest.map_or(score, |lowest| lowest.min(score)));
            count.highest = Some(count.highest.map_or(score, |highest| highest.max(score)));
        }
    }

    /// Counts a group, and says whether it was judged.
    fn count_group(&mut self, label: &Label, row: &ScoreGroup) -> bool {
        let is_its =
            |of: &OfUnit| of.label == *label && of.method == row.method && of.unit == row.unit;
        if !self.groups.last().is_some_and(is_its) {
            self.groups.push(OfUnit {
                label: label.clone(),
                method: row.method.clone(),
                unit: row.unit.clone(),
                n: 0,
                n_judged: 0,
                n_suspicious: 0,
                n_helpful: 0,
                outermost: Vec::new(),
            });
        }
        let Some(of) = self.groups.last_mut() else {
            return false;
        };
        of.n += 1;
        let Some(z) = row.z else { return false };
        of.n_judged += 1;
        if row.is_anomalous && z < 0.0 {
            of.n_suspicious += 1;
        } else if row.is_anomalous {
            of.n_helpful += 1;
        }
        true
    }

    /// Keeps the ends of the groups of a unit, which come in ascending order of z.
    fn close(&mut self, mut judged: Vec<ScoreGroup>) {
        let unit = judged.first().map(|group| group.unit.clone());
        let mut of = self.groups.iter_mut().rev();
        let Some(of) = of.find(|of| Some(&of.unit) == unit.as_ref()) else {
            return;
        };
        if judged.len() > 2 * OUTERMOST {
            judged.drain(OUTERMOST..judged.len() - OUTERMOST);
        }
        of.outermost = judged;
    }
}
