//! datasets.
