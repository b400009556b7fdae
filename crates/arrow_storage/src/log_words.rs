//! The words of the memories in the log: what was saved is found by the next query.

use crate::memory::Memory;
use crate::state::State;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use text_search::Recent;
use vector_search::Bitmap;

/// Rows that may be of memories that are no longer in the log, beside as many as are.
const SLACK: usize = 1024;

/// The memories of the log inverted, as far as a query needed them. They are told apart by their address, which a weak
/// reference keeps from being used again.
#[derive(Debug, Default)]
pub(crate) struct LogWords {
    pub(crate) words: Recent,
    memories: Vec<Weak<Memory>>,
    rows: HashMap<*const Memory, usize>,
    /// Generation and number of the last commit of the state that was looked at last, and its rows.
    seen: Option<((u64, u64), Bitmap)>,
}

// SAFETY: the addresses are compared and never followed.
unsafe impl Send for LogWords {}

impl LogWords {
    /// Takes in what a state has in its log; returns these rows.
    pub(crate) fn follow(&mut self, state: &State) -> Bitmap {
        let version = (state.manifest.generation, state.seq);
        if let Some((seen, rows)) = &self.seen
            && *seen == version
        {
            return rows.clone();
        }
        if self.memories.len() > 2 * state.fresh.len() + SLACK {
            *self = Self::default();
        }
        let rows: Vec<usize> = state
            .fresh
            .iter()
            .map(|memory| self.add(&memory.0))
            .collect();
        let mut alive = Bitmap::empty(self.memories.len());
        for row in rows {
            alive.insert(row);
        }
        self.seen = Some((version, alive.clone()));
        alive
    }

    fn add(&mut self, memory: &Arc<Memory>) -> usize {
        if let Some(row) = self.row(memory) {
            return row;
        }
        let row = self.words.add(&memory.content);
        self.memories.push(Arc::downgrade(memory));
        self.rows.insert(Arc::as_ptr(memory), row);
        row
    }

    /// The row of a memory that was taken in.
    pub(crate) fn row(&self, memory: &Arc<Memory>) -> Option<usize> {
        self.rows.get(&Arc::as_ptr(memory)).copied()
    }

    /// The memory of a row, while it is in the log of a state.
    pub(crate) fn memory(&self, row: usize) -> Option<Arc<Memory>> {
        self.memories.get(row)?.upgrade()
    }
}
