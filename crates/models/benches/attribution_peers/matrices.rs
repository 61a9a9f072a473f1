//! The matrices of a projection, made from the seed again as `sequence/projector.rs` says, for the
//! other side to multiply with.
//!
//! Normal numbers of variance 1 / rank, by the method of Box and Muller, a row for each number that is
//! left. `NAME` is that of one parameter: `NAME` alone multiplies the whole gradient, row after row of
//! it; `NAME/outputs` and `NAME/inputs` multiply its two factors. A parameter that is kept as it is has
//! none.

use models::{Basis, GradientLayer, Projection, Seed, Tensors};

use std::error::Error;

/// One for each layer, or two.
pub(crate) fn of_layers(
    layers: &[GradientLayer],
    weights: &Tensors,
    projection: &Projection,
    seed: Seed,
) -> Result<Tensors, Box<dyn Error>> {
    let mut tensors = Tensors::new();
    for layer in layers {
        let &[n_out, n_in] = weights.shape(&layer.name)? else {
            return Err(format!("`{}` is no matrix", layer.name).into());
        };
        let seed = seed.child(&layer.name);
        if layer.is_exact {
            continue;
        }
        if n_out == 1 || projection.basis == Basis::Gaussian {
            let values = normal(layer.width, layer.n_parameters, seed);
            tensors.insert_f32(&layer.name, &[layer.width, layer.n_parameters], values)?;
            continue;
        }
        for (side, n) in [("outputs", n_out), ("inputs", n_in)] {
            let values = normal(projection.rank, n, seed.child(side));
            tensors.insert_f32(
                &format!("{}/{side}", layer.name),
                &[projection.rank, n],
                values,
            )?;
        }
    }
    Ok(tensors)
}

fn normal(rank: usize, n: usize, seed: Seed) -> Vec<f32> {
    let stream = seed.stream();
    let scale = 1.0 / libm::sqrt(rank as f64);
    (0..(rank * n) as u64)
        .map(|at| {
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - stream.uniform(at, 0)));
            let angle = std::f64::consts::TAU * stream.uniform(at, 1);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounded to 32 bits on purpose"
            )]
            let number = (scale * radius * libm::cos(angle)) as f32;
            number
        })
        .collect()
}
