//! A log of sequences as samples, with the last items held out if asked.

use std::error::Error;

use models::{Samples, Sequences};

/// Requests: (history, relevant item).
pub(crate) type Requests = Vec<(Vec<u32>, u32)>;

/// What is trained on and what is ranked.
pub(crate) struct Log {
    pub(crate) samples: Samples,
    pub(crate) sequences: Sequences,
    pub(crate) n_items: usize,
    /// The item before the last of each user.
    pub(crate) validation: Requests,
    /// The last item of each user.
    pub(crate) test: Requests,
}

impl Log {
    /// Reads `user item item ...` lines; items are numbers from 1 to `n_items`. Held out are the
    /// last two items of each user.
    pub(crate) fn read(
        text: &str,
        n_items: usize,
        is_held_out: bool,
    ) -> Result<Self, Box<dyn Error>> {
        let mut log = Self {
            samples: Samples::default(),
            sequences: Sequences::default(),
            n_items,
            validation: Requests::new(),
            test: Requests::new(),
        };
        let mut id = 0;
        for (user, line) in (0_u32..).zip(text.lines()) {
            let mut items = Vec::new();
            for number in line.split(' ').skip(1) {
                let number: u32 = number.parse()?;
                items.push(number.checked_sub(1).ok_or("items are numbered from 1")?);
            }
            let n_held_out = if is_held_out { 2 } else { 0 };
            let Some(n) = items.len().checked_sub(n_held_out) else {
                continue;
            };
            for (position, &item) in (0_u32..).zip(&items[..n]) {
                log.sequences.push(user, position, item)?;
                log.samples.push(id, user, position, item, 1.0);
                id += 1;
            }
            if is_held_out {
                log.validation.push((items[..n].to_vec(), items[n]));
                log.test.push((items[..=n].to_vec(), items[n + 1]));
            }
        }
        log.samples.sort();
        Ok(log)
    }
}
