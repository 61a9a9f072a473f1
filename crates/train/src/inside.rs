//! Mode `probe` with `attention` and `hidden_states`: how much predictions look at the event of each
//! sample, and what histories become before items are scored.
//!
//! Attention goes through the network a few hundred windows at a time and leaves five numbers for each
//! event. Hidden states are in memory at once: 4 bytes x (samples + requests + items) x columns.

pub(crate) mod config;

use std::path::Path;

use models::hidden_layout as layout;
use models::{
    AskedRequest, AttentionMaps, HiddenStates, History, Predictions, Sequences, Tensors,
    TrainingData,
};
use stage::{Exit, Failure, Io};
use tables::{Part, ProbeAttention, Request, RowWriter};

use crate::projected::table_order;

/// Writes `probe_attention`.
pub(crate) fn write_attention(
    maps: &dyn AttentionMaps,
    data: &TrainingData<'_>,
    requests: &[Request],
    part: Part,
    io: &Io,
    out: &Path,
) -> Result<(), Failure> {
    let asked: Vec<AskedRequest<'_>> = requests
        .iter()
        .filter(|request| request.part == part)
        .map(|request| AskedRequest {
            sequence: request.sequence,
            history_end: request.history_end,
            relevant: &request.relevant,
        })
        .collect();
    let (predictions, n) = if part == Part::Training {
        (Predictions::Samples, data.n_samples())
    } else if asked.is_empty() {
        return Err(
            Failure::new(Exit::Data, format!("there is no request of part `{part}`"))
                .hint("make the part larger with `parts` or `instants` of `split`"),
        );
    } else {
        (Predictions::Requests(&asked), asked.len())
    };
    let progress = std::sync::Mutex::new(io.progress("attention", n as u64));
    let received = maps.received(data, predictions, &|done| {
        // A poisoned bar belongs to a panic that is on its way already.
        if let Ok(mut progress) = progress.lock() {
            progress.advance(done);
        }
    });
    let mut order: Vec<usize> = (0..data.n_samples()).collect();
    order.sort_unstable_by_key(|&at| data.sample_id(at));
    let mut writer = RowWriter::<ProbeAttention>::create(out).map_err(Failure::environment)?;
    for at in order {
        let event = data.first_event(data.sequence(at)) + data.position(at) as usize;
        let row = ProbeAttention {
            sample_id: data.sample_id(at),
            part,
            n_predictions: received.n_predictions[event],
            even: received.even[event],
            raw: received.raw[event],
            rollout: received.rollout[event],
            gradient: received.gradient[event],
        };
        writer.push(row).map_err(Failure::environment)?;
    }
    writer.finish().map_err(Failure::environment)?;
    Ok(())
}

/// Writes `hidden.safetensors`.
pub(crate) fn write_hidden(
    states: &dyn HiddenStates,
    data: &TrainingData<'_>,
    sequences: &Sequences,
    requests: &[Request],
    io: &Io,
    out: &Path,
) -> Result<(), Failure> {
    let columns = states.n_columns();
    let progress = std::sync::Mutex::new(io.progress("hidden states", data.n_samples() as u64));
    let rows = states.of_samples(data, &|done| {
        if let Ok(mut progress) = progress.lock() {
            progress.advance(done);
        }
    });
    let (mut sample, mut sample_state) = (Vec::new(), Vec::new());
    for (place, at) in (0_u32..).zip(table_order(data, io)?) {
        if let Ok(row) = rows.numbers.binary_search(&at) {
            sample.push(place);
            sample_state.extend(&rows.values[row * columns..(row + 1) * columns]);
        }
    }
    drop(rows);
    let histories: Vec<History<'_>> = requests
        .iter()
        .map(|request| {
            // Every history was seen when the requests were read.
            let history = sequences.history(request.sequence, request.history_end);
            history.unwrap_or_default()
        })
        .collect();
    let rows = states.of_requests(&histories);
    let request: Vec<u32> = rows
        .numbers
        .iter()
        .map(|&at| requests[at as usize].request)
        .collect();
    let items = states.items();
    let n_items = items.vectors.len() / columns.max(1);
    let (n, m) = (sample.len(), request.len());
    let mut tensors = Tensors::new();
    tensors
        .insert_u32(layout::SAMPLE, &[n], sample)
        .and_then(|()| tensors.insert_f32(layout::SAMPLE_STATE, &[n, columns], sample_state))
        .and_then(|()| tensors.insert_u32(layout::REQUEST, &[m], request))
        .and_then(|()| tensors.insert_f32(layout::REQUEST_STATE, &[m, columns], rows.values))
        .and_then(|()| tensors.insert_f32(layout::ITEM_VECTOR, &[n_items, columns], items.vectors))
        .and_then(|()| match items.bias {
            Some(bias) => tensors.insert_f32(layout::ITEM_BIAS, &[n_items], bias),
            None => Ok(()),
        })
        .map_err(Failure::computation)?;
    tensors
        .save(&out.join(layout::FILE))
        .map_err(Failure::environment)
}
