//! Sparse matrices in compressed rows.

/// What a sparse matrix can hold: 32- or 64-bit floats.
pub trait Float: Copy + Default + PartialEq + std::fmt::Debug + sealed::Sealed {
    /// Whether it is neither NaN nor infinite.
    fn is_finite(self) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Float for f32 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for f64 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

/// A sparse matrix: row `i` holds `indices[indptr[i]..indptr[i + 1]]` and the values beside them.
///
/// Columns ascend strictly within a row and values are finite; [`Csr::check`] says so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Csr<T = f32> {
    /// Number of columns.
    pub n_columns: usize,
    /// Start of each row, and the end of the last: `[n_rows + 1]`.
    pub indptr: Vec<u64>,
    /// Columns: `[n_values]`.
    pub indices: Vec<u32>,
    /// Values: `[n_values]`.
    pub values: Vec<T>,
}

/// What makes three arrays no sparse matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// `indptr` is empty, does not start at 0 or descends.
    #[error("row starts must begin with 0 and not descend (row {row})")]
    RowStarts {
        /// The first wrong row.
        row: usize,
    },
    /// The lengths of the arrays disagree.
    #[error("{n_indices} columns and {n_values} values where the rows end at {end}")]
    Lengths {
        /// Length of `indices`.
        n_indices: usize,
        /// Length of `values`.
        n_values: usize,
        /// Last entry of `indptr`.
        end: u64,
    },
    /// A column is out of range, repeated or out of order.
    #[error("column {column} of row {row} is not above the one before or not below {n_columns}")]
    Column {
        /// The row.
        row: usize,
        /// The column.
        column: u32,
        /// Number of columns of the matrix.
        n_columns: usize,
    },
    /// A value is NaN or infinite.
    #[error("value at row {row}, column {column} is not finite")]
    NotFinite {
        /// The row.
        row: usize,
        /// The column.
        column: u32,
    },
}

impl<T: Float> Csr<T> {
    /// A matrix without rows.
    pub fn new(n_columns: usize) -> Self {
        Self {
            n_columns,
            indptr: vec![0],
            indices: Vec::new(),
            values: Vec::new(),
        }
    }

    /// A matrix from rows of (column, value) pairs, columns ascending.
    ///
    /// # Errors
    /// If a row's columns do not ascend strictly, are out of range, or a value is not finite.
    pub fn from_rows<R>(
        n_columns: usize,
        rows: impl IntoIterator<Item = R>,
    ) -> Result<Self, CsrError>
    where
        R: IntoIterator<Item = (u32, T)>,
    {
        let mut matrix = Self::new(n_columns);
        for row in rows {
            matrix.push_row(row)?;
        }
        Ok(matrix)
    }

    /// Adds a row of (column, value) pairs, columns ascending.
    ///
    /// # Errors
    /// If the columns do not ascend strictly, are out of range, or a value is not finite; the
    /// matrix is then as before.
    pub fn push_row(&mut self, pairs: impl IntoIterator<Item = (u32, T)>) -> Result<(), CsrError> {
        let row = self.n_rows();
        let start = self.indices.len();
        for (column, value) in pairs {
            self.indices.push(column);
            self.values.push(value);
        }
        let checked = check_row(
            row,
            self.n_columns,
            &self.indices[start..],
            &self.values[start..],
        );
        if checked.is_err() {
            self.indices.truncate(start);
            self.values.truncate(start);
        } else {
            self.indptr.push(self.indices.len() as u64);
        }
        checked
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }

    /// Number of stored values.
    pub fn n_values(&self) -> usize {
        self.values.len()
    }

    /// Columns and values of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> (&[u32], &[T]) {
        let range = self.range(row);
        (&self.indices[range.clone()], &self.values[range])
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "`check` bounds every start by the length of a vector"
    )]
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.indptr[row] as usize..self.indptr[row + 1] as usize
    }

    /// The transposed matrix, `[n_columns, n_rows]`; a matrix of more than 2^32 rows has none.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "starts are bounded by the length of a vector, rows by what is documented"
    )]
    pub fn transpose(&self) -> Self {
        let mut indptr = vec![0_u64; self.n_columns + 1];
        for &column in &self.indices {
            indptr[column as usize + 1] += 1;
        }
        for column in 0..self.n_columns {
            indptr[column + 1] += indptr[column];
        }
        let mut next: Vec<usize> = indptr.iter().map(|&start| start as usize).collect();
        let mut indices = vec![0_u32; self.indices.len()];
        let mut values = vec![T::default(); self.values.len()];
        for row in 0..self.n_rows() {
            let (columns, row_values) = self.row(row);
            for (&column, &value) in columns.iter().zip(row_values) {
                let at = &mut next[column as usize];
                indices[*at] = row as u32;
                values[*at] = value;
                *at += 1;
            }
        }
        Self {
            n_columns: self.n_rows(),
            indptr,
            indices,
            values,
        }
    }

    /// Checks what reading a file cannot take for granted.
    ///
    /// # Errors
    /// If the arrays are no sparse matrix, see [`CsrError`].
    pub fn check(&self) -> Result<(), CsrError> {
        let Some((&first, &end)) = self.indptr.first().zip(self.indptr.last()) else {
            return Err(CsrError::RowStarts { row: 0 });
        };
        if first != 0 {
            return Err(CsrError::RowStarts { row: 0 });
        }
        if let Some(row) = self.indptr.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(CsrError::RowStarts { row });
        }
        if self.indices.len() != self.values.len() || self.indices.len() as u64 != end {
            return Err(CsrError::Lengths {
                n_indices: self.indices.len(),
                n_values: self.values.len(),
                end,
            });
        }
        for row in 0..self.n_rows() {
            let (columns, values) = self.row(row);
            check_row(row, self.n_columns, columns, values)?;
        }
        Ok(())
    }
}

fn check_row<T: Float>(
    row: usize,
    n_columns: usize,
    columns: &[u32],
    values: &[T],
) -> Result<(), CsrError> {
    let mut next = 0_u64;
    for (&column, &value) in columns.iter().zip(values) {
        if u64::from(column) < next || column as usize >= n_columns {
            return Err(CsrError::Column {
                row,
                column,
                n_columns,
            });
        }
        if !value.is_finite() {
            return Err(CsrError::NotFinite { row, column });
        }
        next = u64::from(column) + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small() -> Csr {
        Csr::from_rows(
            4,
            [vec![(0, 1.0), (3, 2.0)], vec![], vec![(1, -1.0), (3, 0.5)]],
        )
        .unwrap()
    }

    #[test]
    fn rows_come_back_as_they_were_given() {
        let matrix = small();
        assert_eq!(matrix.n_rows(), 3);
        assert_eq!(matrix.row(0), (&[0, 3][..], &[1.0, 2.0][..]));
        assert_eq!(matrix.row(1), (&[][..], &[][..]));
        assert_eq!(matrix.row(2), (&[1, 3][..], &[-1.0, 0.5][..]));
        matrix.check().unwrap();
    }

    #[test]
    fn transposing_swaps_rows_and_columns() {
        let transposed = small().transpose();
        assert_eq!((transposed.n_rows(), transposed.n_columns), (4, 3));
        assert_eq!(transposed.row(3), (&[0, 2][..], &[2.0, 0.5][..]));
        assert_eq!(transposed.row(2), (&[][..], &[][..]));
        transposed.check().unwrap();
    }

    #[test]
    fn a_refused_row_leaves_the_matrix_as_it_was() {
        let mut matrix = small();
        for wrong in [
            vec![(4, 1.0)],
            vec![(1, 1.0), (1, 1.0)],
            vec![(2, 1.0), (0, 1.0)],
            vec![(0, f32::NAN)],
        ] {
            assert!(matrix.push_row(wrong).is_err());
            assert_eq!(matrix, small());
        }
    }

    #[test]
    fn damaged_arrays_are_refused() {
        let damage: [fn(&mut Csr); 6] = [
            |m| m.indptr.clear(),
            |m| m.indptr[0] = 1,
            |m| m.indptr[1] = 9,
            |m| m.indptr[3] = 5,
            |m| m.indices[1] = 4,
            |m| m.values[0] = f32::INFINITY,
        ];
        for damage in damage {
            let mut matrix = small();
            damage(&mut matrix);
            assert!(matrix.check().is_err(), "{matrix:?}");
        }
    }

    proptest! {
        #[test]
        fn transposing_twice_changes_nothing(
            rows in prop::collection::vec(
                prop::collection::btree_map(0_u32..9, -5.0_f32..5.0, 0..6),
                0..12,
            ),
        ) {
            let matrix = Csr::from_rows(9, rows).unwrap();
            prop_assert_eq!(matrix.transpose().transpose(), matrix);
        }
    }
}
