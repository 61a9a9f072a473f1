//! A log as training data, one sample of each sequence, and requests.
//!
//! A line of the log is a user and the user's items, oldest first, one more than a window is long:
//! the last item is the target of a sample whose history fills its window. The last lines are
//! requests and not trained on.

use std::error::Error;

use models::{History, Samples, Sequences, Tensors, TrainingData};

/// Events of a window.
const LENGTH: usize = 50;
/// Lines at the end that are requests.
const REQUESTS: usize = 128;

/// What is trained on, and what gradients are measured against.
pub(crate) struct Peers {
    pub(crate) samples: Samples,
    pub(crate) sequences: Sequences,
    pub(crate) n_items: usize,
    /// The items of each request, the last one relevant.
    requests: Vec<Vec<u32>>,
}

impl Peers {
    /// Reads `user item item ...` lines; items are numbers from 1 to `n_items`.
    pub(crate) fn read(text: &str, n_items: usize) -> Result<Self, Box<dyn Error>> {
        let mut lines = Vec::new();
        for line in text.lines() {
            let mut items = Vec::new();
            for number in line.split(' ').skip(1) {
                let number: u32 = number.parse()?;
                items.push(number.checked_sub(1).ok_or("items are numbered from 1")?);
            }
            if items.len() != LENGTH + 1 {
                return Err(
                    format!("a line has {} items, wanted {}", items.len(), LENGTH + 1).into(),
                );
            }
            lines.push(items);
        }
        let n = lines.len().checked_sub(REQUESTS).ok_or("too few lines")?;
        let requests = lines.split_off(n);
        let (mut samples, mut sequences) = (Samples::default(), Sequences::default());
        let mut id = 0;
        for (user, items) in (0_u32..).zip(&lines) {
            for (position, &item) in (0_u32..).zip(items) {
                sequences.push(user, position, item)?;
                samples.push(id, user, position, item, 1.0);
                id += 1;
            }
        }
        samples.sort();
        Ok(Self {
            samples,
            sequences,
            n_items,
            requests,
        })
    }

    /// Requests: history and relevant item.
    pub(crate) fn requests(&self) -> Vec<(History<'_>, &[u32])> {
        self.requests
            .iter()
            .map(|items| items.split_at(LENGTH))
            .map(|(history, relevant)| (History::of(history), relevant))
            .collect()
    }

    /// What the other side reads: `history` [samples, events], `item` [samples], and the same of
    /// requests.
    pub(crate) fn to_tensors(&self, data: &TrainingData<'_>) -> Result<Tensors, Box<dyn Error>> {
        let chosen = chosen(data);
        let (mut history, mut item) = (Vec::new(), Vec::new());
        for &at in &chosen {
            history.extend_from_slice(data.history(at as usize).items());
            item.push(data.item(at as usize));
        }
        let (mut of_request, mut relevant) = (Vec::new(), Vec::new());
        for (history, items) in self.requests() {
            of_request.extend_from_slice(history.items());
            relevant.extend_from_slice(items);
        }
        let mut tensors = Tensors::new();
        tensors.insert_u32("history", &[item.len(), LENGTH], history)?;
        tensors.insert_u32("item", &[item.len()], item)?;
        tensors.insert_u32("request_history", &[relevant.len(), LENGTH], of_request)?;
        tensors.insert_u32("request_item", &[relevant.len()], relevant)?;
        Ok(tensors)
    }
}

/// The samples whose history fills a window: one of each sequence.
pub(crate) fn chosen(data: &TrainingData<'_>) -> Vec<u32> {
    (0_u32..)
        .zip(0..data.n_samples())
        .filter(|&(_, at)| data.history_end(at) as usize == LENGTH)
        .map(|(number, _)| number)
        .collect()
}
