//! Counts the work that was done, and how much of it was done in vain.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::id::{AttemptId, TaskId};

/// Attempts that ran, and those that counted.
#[derive(Debug, Default)]
pub struct Ledger {
    begun: u32,
    finished: BTreeMap<AttemptId, TaskId>,
    committed: BTreeSet<AttemptId>,
    /// Tasks that had to be done another way: their first results are no waste.
    changed: BTreeSet<TaskId>,
    /// Things that went wrong.
    pub faults: u32,
}

/// What a run cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Things that went wrong.
    pub faults: u32,
    /// Encodes that ran to their end and were not used.
    pub redone: u32,
    /// Encodes that did not run to their end.
    pub broken_off: u32,
}

impl Ledger {
    /// An encode begins.
    pub fn begins(&mut self) {
        self.begun += 1;
    }

    /// An encode ran to its end.
    pub fn finishes(&mut self, attempt: AttemptId, task: TaskId) {
        self.finished.insert(attempt, task);
    }

    /// A result is durably the one that counts.
    pub fn commits(&mut self, attempt: AttemptId) {
        self.committed.insert(attempt);
    }

    /// The task is to be done another way.
    pub fn changes(&mut self, task: TaskId) {
        self.changed.insert(task);
    }

    /// The sums.
    pub fn cost(&self) -> Cost {
        let wasted = self.finished.iter().filter(|(attempt, task)| {
            !self.committed.contains(*attempt) && !self.changed.contains(*task)
        });
        let finished = u32::try_from(self.finished.len()).unwrap_or(u32::MAX);
        Cost {
            faults: self.faults,
            redone: u32::try_from(wasted.count()).unwrap_or(u32::MAX),
            broken_off: self.begun.saturating_sub(finished),
        }
    }
}
