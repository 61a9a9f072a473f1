//! Buffers over batches whose shapes change from step to step, as those of bucketed windows do.

use seed::Seed;
use tensors::{Activation, Attention, Context, Gradients, Init, Mask, Parameters, Tape, Workspace};

use crate::check::{draws, size};

const COLUMNS: usize = 16;
const ITEMS: usize = 90;

/// One pass there and back over `batch` sequences of `length` rows, of which every third has a loss.
fn pass(parameters: &Parameters<f32>, workspace: &mut Workspace<f32>, batch: usize, length: usize) {
    let id = |name: &str| parameters.id(name).unwrap();
    let n = batch * length;
    let ids: Vec<u32> = (0..n).map(|row| (row * 7 % ITEMS) as u32).collect();
    let rows: Vec<u32> = (0..n).step_by(3).map(|row| row as u32).collect();
    let targets: Vec<u32> = rows.iter().map(|row| row % ITEMS as u32).collect();
    let mut gradients = Gradients::new(parameters);
    let context = Context::training(Some(Seed::root(8)), &[]);
    let mut tape = Tape::with_workspace(parameters, context, workspace);
    let x = tape.embedding(id("items"), &ids);
    let x = tape.dropout_add(x, None, 0.2, "e");
    let normed = tape.layer_norm(x, id("gain"), id("bias"), 1e-6);
    let packed = tape.linear(normed, id("packed"), None, Activation::None);
    let settings = Attention {
        heads: 2,
        length,
        mask: Mask::Causal,
        valid: &vec![true; n],
        dropout: 0.2,
        name: "a",
    };
    let mixed = tape.attention(packed, settings);
    let x = tape.dropout_add(mixed, Some(x), 0.2, "d");
    let wide = tape.linear(x, id("wide"), None, Activation::Gelu);
    let x = tape.linear(wide, id("narrow"), None, Activation::None);
    let read = tape.gather_rows(x, &rows);
    let weights = vec![1.0; rows.len()];
    let n_rows = rows.len() as f64;
    let loss = tape.softmax_cross_entropy(read, id("items"), None, &targets, &weights, n_rows);
    tape.backward(&[loss], &mut gradients);
}

fn parameters() -> Parameters<f32> {
    let mut parameters = Parameters::new(Seed::root(1));
    for (name, shape) in [
        ("items", [ITEMS, COLUMNS]),
        ("gain", [1, COLUMNS]),
        ("bias", [1, COLUMNS]),
        ("packed", [3 * COLUMNS, COLUMNS]),
        ("wide", [4 * COLUMNS, COLUMNS]),
        ("narrow", [COLUMNS, 4 * COLUMNS]),
    ] {
        parameters.insert(name, shape, Init::Normal { std: 0.1 });
    }
    parameters
}

/// Rows of a batch, at most: as trained, a batch holds about as many whatever its length.
const ROWS: usize = 600;

#[test]
fn a_workspace_is_bounded_when_shapes_change() {
    let parameters = parameters();
    let mut largest = Workspace::new();
    for _ in 0..3 {
        pass(&parameters, &mut largest, ROWS / 50, 50);
    }
    let mut workspace = Workspace::new();
    let mut draws = draws("shapes", 0);
    let mut sizes = Vec::new();
    for _ in 0..400 {
        let length = size(&mut draws, 1, 50);
        // Now and then the last batch of a group, which is small.
        let most = ROWS / length;
        let batch = if draws.below(5) == 0 {
            size(&mut draws, 1, most)
        } else {
            most
        };
        pass(&parameters, &mut workspace, batch, length);
        sizes.push(workspace.bytes());
    }
    // A buffer serves what needs a quarter of it or more. So those that serve a size are at most as
    // many as are in use at once, for each power of four: 1 + 1/4 + 1/16 + ... of what the largest
    // shape needs, times the four by which a buffer may be too large.
    let most = largest.bytes() * 16 / 3;
    assert!(sizes.iter().all(|bytes| *bytes <= most), "{most} {sizes:?}");
    // Most of it is found soon: later only a rare shape adds a buffer.
    assert!(sizes[399] <= sizes[200] + sizes[200] / 20, "{sizes:?}");
}
