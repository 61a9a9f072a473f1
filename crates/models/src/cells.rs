//! The user by item matrix of implicit feedback and its products: what item neighbourhoods,
//! association rules, EASE and iALS start from.

use tensors::Csr;

use crate::data::TrainingData;
use crate::recommender::FitError;

/// The matrix of cells min(1, sum of the weights of the samples with this user and item), a row for
/// each sequence with a cell above 0.
pub(crate) fn cells(data: &TrainingData<'_>) -> Result<Csr<f64>, FitError> {
    by_user(data, |weight| weight.min(1.0))
}

/// The sum of the weights of the samples with each user and item, a row for each sequence with a
/// sum above 0.
pub(crate) fn sums(data: &TrainingData<'_>) -> Result<Csr<f64>, FitError> {
    by_user(data, |weight| weight)
}

fn by_user(data: &TrainingData<'_>, cell: impl Fn(f64) -> f64) -> Result<Csr<f64>, FitError> {
    let mut cells = Csr::new(data.n_vocabulary());
    let mut row: Vec<(u32, f64)> = Vec::new();
    for samples in data.by_sequence() {
        row.clear();
        row.extend(samples.map(|sample| (data.item(sample), data.weight(sample))));
        row.sort_by_key(|(item, _)| *item);
        let summed = row.chunk_by(|a, b| a.0 == b.0).map(|chunk| {
            let weight: f64 = chunk.iter().map(|(_, weight)| weight).sum();
            (chunk[0].0, cell(weight))
        });
        let mut held = summed.filter(|(_, cell)| *cell > 0.0).peekable();
        // Users without a cell must not even move the blocks that sums over users are cut into.
        if held.peek().is_some() {
            cells.push_row(held)?;
        }
    }
    Ok(cells)
}

/// A row of products that is cleared by what was touched.
pub(crate) struct Accumulator {
    products: Vec<f64>,
    touched: Vec<u32>,
}

impl Accumulator {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            products: vec![0.0; n],
            touched: Vec::new(),
        }
    }

    /// Row `item` of the product of the transposed cells with the cells, without its diagonal,
    /// summed over users in their order.
    pub(crate) fn row(
        &mut self,
        item: u32,
        by_item: &Csr<f64>,
        by_user: &Csr<f64>,
    ) -> Vec<(u32, f64)> {
        let (users, cells) = by_item.row(item as usize);
        for (&user, cell) in users.iter().zip(cells) {
            let (others, other_cells) = by_user.row(user as usize);
            for (&other, other_cell) in others.iter().zip(other_cells) {
                let product = &mut self.products[other as usize];
                if *product <= 0.0 {
                    self.touched.push(other);
                }
                *product += cell * other_cell;
            }
        }
        self.touched
            .drain(..)
            .map(|other| (other, std::mem::take(&mut self.products[other as usize])))
            .filter(|(other, product)| *other != item && *product > 0.0)
            .collect()
    }
}
