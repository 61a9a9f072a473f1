//! The composite forward in float64, with an autograd of its own: the oracle of tests.
