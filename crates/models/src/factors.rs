//! What models with a vector per item share: how vectors start, and how items are scored by them.

use rayon::prelude::*;
use seed::Seed;

use tensors::dense::{dot, kernels};

/// Normal vectors `[n, dimensions]` with mean 0: entry (i, k) is a function of the seed, i and k.
pub(crate) fn initial(seed: Seed, n: usize, dimensions: usize, deviation: f64) -> Vec<f64> {
    let stream = seed.stream();
    let mut factors = vec![0.0; n * dimensions];
    factors
        .par_chunks_mut(dimensions.max(1))
        .enumerate()
        .for_each(|(row, factors)| {
            for (pair, two) in factors.chunks_mut(2).enumerate() {
                let draw = |lane: usize| stream.uniform(row as u64, (2 * pair + lane) as u64);
                // Box and Muller; 1 - u lies in (0, 1].
                let radius = deviation * (-2.0 * libm::log(1.0 - draw(0))).sqrt();
                let (sine, cosine) = libm::sincos(std::f64::consts::TAU * draw(1));
                for (factor, turn) in two.iter_mut().zip([cosine, sine]) {
                    *factor = radius * turn;
                }
            }
        });
    factors
}

kernels! {
    /// `x.y_i` for each item.
    fn write_products<'a>(x: &'a [f32], items: &'a [f32], out: &'a mut [f64]) -> () {
        for (out, y) in out.iter_mut().zip(items.chunks_exact(x.len().max(1))) {
            *out = f64::from(dot(x, y));
        }
    }
}

/// `x.y_i + bias_i` for each item; an item beyond the vectors is scored as a vector of zeros with the
/// smallest bias.
pub(crate) fn scores(x: &[f32], items: &[f32], biases: Option<&[f32]>, scores: &mut [f64]) {
    let n = items.len() / x.len().max(1);
    let (known, unknown) = scores.split_at_mut(n.min(scores.len()));
    write_products(x, items, known);
    let mut smallest = 0.0;
    if let Some(biases) = biases {
        for (score, bias) in known.iter_mut().zip(biases) {
            *score += f64::from(*bias);
        }
        smallest = biases
            .iter()
            .fold(f64::INFINITY, |a, &b| a.min(f64::from(b)));
    }
    unknown.fill(smallest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_start_normal_and_do_not_depend_on_how_many_there_are() {
        let seed = Seed::root(4);
        let factors = initial(seed, 4000, 25, 0.5);
        let n = factors.len() as f64;
        let mean = factors.iter().sum::<f64>() / n;
        let square = factors.iter().map(|x| x * x).sum::<f64>() / n;
        let fourth = factors.iter().map(|x| x.powi(4)).sum::<f64>() / n;
        // Five standard errors: 0.5 / sqrt(n), 0.25 sqrt(2 / n), and 0.0625 sqrt(96 / n).
        assert!(mean.abs() < 0.008, "{mean}");
        assert!((square - 0.25).abs() < 0.0056, "{square}");
        assert!((fourth - 3.0 * 0.0625).abs() < 0.01, "{fourth}");
        assert_eq!(initial(seed, 10, 25, 0.5), factors[..250]);
    }

    #[test]
    fn items_beyond_the_vectors_come_last_among_equals() {
        let mut found = [f64::NAN; 4];
        scores(
            &[1.0, 2.0],
            &[1.0, 1.0, 0.5, 0.0],
            Some(&[0.25, -1.0]),
            &mut found,
        );
        for (found, expected) in found.iter().zip([3.25, -0.5, -1.0, -1.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
        scores(&[1.0], &[-2.0], None, &mut found);
        assert!(found[0] < found[1]);
    }
}
