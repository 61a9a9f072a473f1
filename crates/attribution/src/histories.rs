//! Samples grouped by their history, and the cosine of any history to all of them.

use tensors::Csr;

use crate::nearest::Grouping;
use crate::problem::Samples;

/// Samples whose history has features, numbered by identity and grouped by history.
///
/// A *point* is such a sample; points count from 0 in the order of sample identities, so that a
/// stable order of points is the order (distance, sample id) whatever order samples come in.
pub(crate) struct Histories<'a> {
    matrix: &'a Csr,
    /// Sample of each point: its index in the problem.
    pub(crate) sample: Vec<u32>,
    /// Points by distinct history.
    pub(crate) grouping: Grouping,
    /// Row of each group in the matrix, ascending.
    pub(crate) row: Vec<u32>,
    /// Groups by feature, with their values: `[features, groups]`.
    by_feature: Csr,
}

/// Whether a row has features.
pub(crate) fn has_features(matrix: &Csr, row: u32) -> bool {
    !matrix.row(row as usize).0.is_empty()
}

impl<'a> Histories<'a> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are no more groups than points, and `Grouping` numbers these in 32 bits"
    )]
    pub(crate) fn new(samples: &Samples, matrix: &'a Csr) -> Self {
        let row_of = |sample: u32| samples.history_row[sample as usize];
        let mut sample: Vec<u32> = (0..)
            .take(samples.len())
            .filter(|&sample| has_features(matrix, row_of(sample)))
            .collect();
        sample.sort_unstable_by_key(|&sample| samples.id[sample as usize]);
        let mut row: Vec<u32> = sample.iter().map(|&sample| row_of(sample)).collect();
        row.sort_unstable();
        row.dedup();
        let group_of = |row_wanted: u32| row.partition_point(|&row| row < row_wanted) as u32;
        let of_point = sample
            .iter()
            .map(|&sample| group_of(row_of(sample)))
            .collect();
        let grouping = Grouping::new(of_point, row.len());
        Self {
            matrix,
            sample,
            grouping,
            by_feature: transpose_rows(matrix, &row),
            row,
        }
    }

    /// Features and values of a group's history.
    pub(crate) fn features(&self, group: u32) -> (&'a [u32], &'a [f32]) {
        self.matrix.row(self.row[group as usize] as usize)
    }

    /// Number of features.
    pub(crate) fn n_features(&self) -> usize {
        self.matrix.n_columns
    }

    /// Products that [`Histories::cosines`] of this history would take.
    pub(crate) fn cost(&self, features: &[u32]) -> usize {
        features
            .iter()
            .map(|&feature| self.by_feature.row(feature as usize).0.len())
            .sum()
    }

    /// Writes the cosine of one history to every group.
    ///
    /// Products are added in ascending order of features, as [`cosine`] does: the same bits.
    pub(crate) fn cosines(&self, (features, values): (&[u32], &[f32]), cosines: &mut Vec<f64>) {
        cosines.clear();
        cosines.resize(self.grouping.n_groups(), 0.0);
        for (&feature, &value) in features.iter().zip(values) {
            let (groups, others) = self.by_feature.row(feature as usize);
            for (&group, &other) in groups.iter().zip(others) {
                cosines[group as usize] += f64::from(value) * f64::from(other);
            }
        }
    }
}

/// Product of a dense vector with a sparse one, added in ascending order of features.
pub(crate) fn cosine(dense: &[f64], (features, values): (&[u32], &[f32])) -> f64 {
    let mut sum = 0.0;
    for (&feature, &value) in features.iter().zip(values) {
        sum += dense[feature as usize] * f64::from(value);
    }
    sum
}

/// The chosen rows of a matrix, numbered by their place in `rows`, transposed.
pub(crate) fn transpose_rows(matrix: &Csr, rows: &[u32]) -> Csr {
    let mut chosen = Csr {
        n_columns: matrix.n_columns,
        indptr: vec![0],
        indices: Vec::new(),
        values: Vec::new(),
    };
    for &row in rows {
        let (columns, values) = matrix.row(row as usize);
        chosen.indices.extend_from_slice(columns);
        chosen.values.extend_from_slice(values);
        chosen.indptr.push(chosen.indices.len() as u64);
    }
    chosen.transpose()
}
