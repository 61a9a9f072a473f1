//! Tests of the simulated shop.
