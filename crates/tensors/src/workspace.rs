//! Buffers that are used again, so that a training step does not allocate.

use crate::Real;

/// A pool of buffers. One belongs to a training loop and is lent to each step's tape.
#[derive(Debug, Default)]
pub struct Workspace<F> {
    /// Sorted by capacity, smallest first.
    free: Vec<Vec<F>>,
}

impl<F: Real> Workspace<F> {
    /// An empty pool.
    pub fn new() -> Self {
        Self { free: Vec::new() }
    }

    /// A buffer of `n` numbers, whatever they are: for what is written before it is read.
    pub(crate) fn take(&mut self, n: usize) -> Vec<F> {
        let index = self.free.partition_point(|buffer| buffer.capacity() < n);
        let mut buffer = if index < self.free.len() && self.free[index].capacity() / 4 <= n {
            self.free.remove(index)
        } else {
            Vec::with_capacity(n)
        };
        if buffer.len() > n {
            buffer.truncate(n);
        } else {
            buffer.resize(n, F::ZERO);
        }
        buffer
    }

    /// A buffer of `n` zeros.
    pub(crate) fn zeros(&mut self, n: usize) -> Vec<F> {
        let mut buffer = self.take(n);
        buffer.fill(F::ZERO);
        buffer
    }

    /// A copy of a slice.
    pub(crate) fn copy(&mut self, values: &[F]) -> Vec<F> {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Gives a buffer back.
    pub(crate) fn give(&mut self, buffer: Vec<F>) {
        if buffer.capacity() > 0 {
            let capacity = buffer.capacity();
            let index = self
                .free
                .partition_point(|other| other.capacity() < capacity);
            self.free.insert(index, buffer);
        }
    }

    /// How many bytes lie in the pool.
    pub fn bytes(&self) -> usize {
        let n: usize = self.free.iter().map(Vec::capacity).sum();
        n * size_of::<F>()
    }
}
