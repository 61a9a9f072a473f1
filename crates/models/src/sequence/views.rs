//! Passes that answer many predictions at once: a causal network sees a window once for all its
//! samples, any other sees one history for each.

use std::ops::Range;

use rayon::prelude::*;
use tensors::PADDING;

use super::batches::{Batch, Terms};
use super::model::SequenceModel;
use super::network::Network;
use super::windows::{Window, Windows};
use crate::data::TrainingData;
use crate::history::{Columns, History};
use crate::inside::{AskedRequest, Predictions};

/// Views that go through the network together.
const BLOCK: usize = 32;
/// Blocks that exist side by side before what they say is added up, in order; bounds memory.
const WAVE: usize = 16;

/// What one row of a batch answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    /// The row, counted within its view.
    pub(super) row: usize,
    /// Samples that are predicted there, or the request.
    pub(super) numbers: Vec<u32>,
    /// Items whose loss is read there, with weights.
    targets: Vec<(u32, f64)>,
}

/// Events that go through the network side by side, and the rows that answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) sequence: u32,
    /// Position in the sequence by row; [`PADDING`] for a row without an event.
    pub(super) positions: Vec<u32>,
    /// By row.
    pub(super) queries: Vec<Query>,
}

/// All views of some predictions, made a block at a time.
pub(super) struct Views<'v, N> {
    model: &'v SequenceModel<N>,
    data: &'v TrainingData<'v>,
    source: Source<'v>,
    /// Views by length: those of one length need no padding.
    order: Vec<u32>,
}

enum Source<'v> {
    Windows(Windows),
    /// Samples of one history.
    Baskets(Vec<Range<usize>>),
    Requests(&'v [AskedRequest<'v>]),
}

impl<'v, N: Network> Views<'v, N> {
    pub(super) fn new(
        model: &'v SequenceModel<N>,
        data: &'v TrainingData<'v>,
        predictions: Predictions<'v>,
    ) -> Self {
        let span = model.network.span();
        let most = span.length as usize;
        let known = |history| model.known(history).history().len().min(most);
        let (source, lengths): (Source<'_>, Vec<usize>) = match predictions {
            Predictions::Requests(asked) => {
                let of = |asked: &AskedRequest<'_>| {
                    known(data.events(asked.sequence, asked.history_end))
                };
                (Source::Requests(asked), asked.iter().map(of).collect())
            }
            Predictions::Samples if N::IS_CAUSAL => {
                let windows = Windows::new(data, span, |sample| model.has_loss(data, sample));
                let lengths = windows.windows.iter().map(Window::len).collect();
                (Source::Windows(windows), lengths)
            }
            Predictions::Samples => {
                let key = |sample: usize| (data.sequence(sample), data.history_end(sample));
                let samples: Vec<usize> = (0..data.n_samples()).collect();
                // Samples of one basket share a history and follow each other.
                let baskets = samples.chunk_by(|&a, &b| key(a) == key(b));
                let baskets: Vec<Range<usize>> = baskets
                    .map(|basket| basket[0]..basket[0] + basket.len())
                    .collect();
                let of = |basket: &Range<usize>| known(span.seen(data.history(basket.start)));
                let lengths = baskets.iter().map(of).collect();
                (Source::Baskets(baskets), lengths)
            }
        };
        let mut order: Vec<u32> = (0..)
            .zip(&lengths)
            .filter(|&(_, &length)| length > 0)
            .map(|(at, _)| at)
            .collect();
        order.sort_by_key(|&at| lengths[at as usize]);
        Self {
            model,
            data,
            source,
            order,
        }
    }

    /// Works on all views, a block at a time, and takes what comes of each block in order.
    pub(super) fn each<S: Send>(
        &self,
        work: impl Fn(&Batch, &[View]) -> S + Sync,
        mut take: impl FnMut(S),
    ) {
        for wave in self.order.chunks(BLOCK * WAVE) {
            let found: Vec<S> = wave
                .par_chunks(BLOCK)
                .map(|chosen| {
                    let (batch, views) = self.block(chosen);
                    work(&batch, &views)
                })
                .collect();
            for found in found {
                take(found);
            }
        }
    }

    /// Some views as a batch, with their losses.
    fn block(&self, chosen: &[u32]) -> (Batch, Vec<View>) {
        let (mut batch, views) = match &self.source {
            Source::Windows(windows) => self.windows(windows, chosen),
            Source::Baskets(baskets) => self.histories(chosen.iter().map(|&at| {
                let basket = baskets[at as usize].clone();
                let seen = self
                    .model
                    .network
                    .span()
                    .seen(self.data.history(basket.start));
                let end = self.data.history_end(basket.start);
                let query = Query {
                    row: 0,
                    targets: basket
                        .clone()
                        .map(|sample| (self.data.item(sample), 1.0))
                        .collect(),
                    numbers: basket.map(number).collect(),
                };
                (
                    self.data.sequence(query.numbers[0] as usize),
                    end,
                    seen,
                    query,
                )
            })),
            Source::Requests(asked) => self.histories(chosen.iter().map(|&at| {
                let AskedRequest {
                    sequence,
                    history_end,
                    relevant,
                } = asked[at as usize];
                let n_items = self.model.network.n_items();
                let share = 1.0 / relevant.len().max(1) as f64;
                let known = relevant.iter().filter(|&&item| (item as usize) < n_items);
                let query = Query {
                    row: 0,
                    numbers: vec![at],
                    targets: known.map(|&item| (item, share)).collect(),
                };
                let history = self.data.events(sequence, history_end);
                (sequence, history_end, history, query)
            })),
        };
        batch.terms = terms(&batch, &views);
        (batch, views)
    }

    fn windows(&self, windows: &Windows, chosen: &[u32]) -> (Batch, Vec<View>) {
        let chosen: Vec<&Window> = chosen
            .iter()
            .map(|&at| &windows.windows[at as usize])
            .collect();
        let batch = Batch::of_windows(self.data, windows, &chosen);
        let views = chosen
            .iter()
            .enumerate()
            .map(|(at, window)| {
                let valid = &batch.valid[at * batch.length..(at + 1) * batch.length];
                let terms = windows.terms(window);
                View {
                    sequence: window.sequence,
                    positions: (window.start..)
                        .zip(valid)
                        .map(|(position, &valid)| if valid { position } else { PADDING })
                        .collect(),
                    queries: terms
                        .chunk_by(|a, b| a.position == b.position)
                        .map(|same| Query {
                            row: same[0].position as usize,
                            numbers: same.iter().map(|term| term.sample).collect(),
                            targets: same
                                .iter()
                                .map(|term| (self.data.item(term.sample as usize), 1.0))
                                .collect(),
                        })
                        .collect(),
                }
            })
            .collect();
        (batch, views)
    }

    /// Histories, each with its sequence, its end there and what it answers, as far as the network
    /// sees and knows them.
    fn histories<'h>(
        &self,
        asked: impl Iterator<Item = (u32, u32, History<'h>, Query)>,
    ) -> (Batch, Vec<View>) {
        let network = &self.model.network;
        let (n_items, most) = (network.n_items(), network.span().length as usize);
        let (mut known, mut views): (Vec<Columns>, Vec<View>) = (Vec::new(), Vec::new());
        for (sequence, end, history, query) in asked {
            let first = end - number(history.len());
            let positions = (first..).zip(history.items());
            let positions: Vec<u32> = positions
                .filter(|(_, item)| (**item as usize) < n_items)
                .map(|(position, _)| position)
                .collect();
            let skipped = positions.len().saturating_sub(most);
            known.push(self.model.last_known(history));
            views.push(View {
                sequence,
                positions: positions[skipped..].to_vec(),
                queries: vec![query],
            });
        }
        let histories: Vec<History<'_>> = known.iter().map(Columns::history).collect();
        let (batch, rows) = network.request_batch(&histories);
        for ((at, view), &row) in views.iter_mut().enumerate().zip(&rows) {
            view.queries[0].row = row as usize - at * batch.length;
            view.positions.resize(batch.length, PADDING);
        }
        (batch, views)
    }
}

/// The losses of all queries, to be summed.
fn terms(batch: &Batch, views: &[View]) -> Terms {
    let mut terms = Terms::default();
    for (at, view) in views.iter().enumerate() {
        for query in &view.queries {
            for &(target, weight) in &query.targets {
                terms.rows.push(number(at * batch.length + query.row));
                terms.targets.push(target);
                terms.weights.push(weight);
                terms.sample_ids.push(0);
            }
        }
    }
    // Losses are divided by the number of terms; here they are summed.
    let n_terms = terms.rows.len() as f64;
    for weight in &mut terms.weights {
        *weight *= n_terms;
    }
    terms
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "samples, events of a sequence and rows of a batch are fewer than 2^32"
)]
fn number(at: usize) -> u32 {
    at as u32
}
