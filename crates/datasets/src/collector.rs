//! Keeps all rows of a data set in memory, for tests.

use tables::{Interaction, Item, Judgment, Query, Reject, Truth, User, WriteError};

use crate::dataset::Sink;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Collector {
    pub(crate) interactions: Vec<Interaction>,
    pub(crate) items: Vec<Item>,
    pub(crate) users: Vec<User>,
    pub(crate) queries: Vec<Query>,
    pub(crate) judgments: Vec<Judgment>,
    pub(crate) truth: Vec<Truth>,
    pub(crate) rejects: Vec<(&'static str, Reject)>,
    pub(crate) progress: (u64, u64),
}

impl Sink for Collector {
    fn interaction(&mut self, row: Interaction) -> Result<(), WriteError> {
        self.interactions.push(row);
        Ok(())
    }

    fn item(&mut self, row: Item) -> Result<(), WriteError> {
        self.items.push(row);
        Ok(())
    }

    fn user(&mut self, row: User) -> Result<(), WriteError> {
        self.users.push(row);
        Ok(())
    }

    fn query(&mut self, row: Query) -> Result<(), WriteError> {
        self.queries.push(row);
        Ok(())
    }

    fn judgment(&mut self, row: Judgment) -> Result<(), WriteError> {
        self.judgments.push(row);
        Ok(())
    }

    fn truth(&mut self, row: Truth) -> Result<(), WriteError> {
        self.truth.push(row);
        Ok(())
    }

    fn reject(&mut self, class: &'static str, row: Reject) -> Result<(), WriteError> {
        self.rejects.push((class, row));
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64) {
        assert!(done >= self.progress.0 && done <= total);
        self.progress = (done, total);
    }
}
