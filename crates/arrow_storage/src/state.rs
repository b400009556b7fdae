//! Everything a store knows at one commit.

use crate::error::Result;
use crate::frame::Operation;
use crate::manifest::Manifest;
use crate::memory::Memory;
use crate::merge::Merged;
use crate::removals::{Removals, Removed};
use crate::segment::Segment;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use vector_search::Bitmap;

/// A segment and which of its rows are gone.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) segment: Arc<Segment>,
    pub(crate) dead: Arc<Bitmap>,
}

impl Live {
    pub(crate) fn new(segment: Arc<Segment>) -> Self {
        let dead = Arc::new(Bitmap::empty(segment.rows()));
        Self { segment, dead }
    }

    pub(crate) fn alive(&self) -> usize {
        self.segment.rows() - self.dead.count()
    }

    /// The row of an id that is not gone.
    fn find(&self, id: &str) -> Result<Option<usize>> {
        Ok(self
            .segment
            .find(id)?
            .filter(|&row| !self.dead.contains(row)))
    }
}

/// A memory ordered by its id.
#[derive(Debug, Clone)]
pub(crate) struct ById(pub(crate) Arc<Memory>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Where a memory is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Segment and row.
    Row(usize, usize),
    /// In the log, and so in memory.
    Fresh(Arc<Memory>),
}

/// What a commit changes of what is there.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Rows that go: segment and row.
    gone: Vec<(usize, usize)>,
    pub(crate) removed: Removed,
}

/// The segments, and what the log adds to them. Every id is in one place at most.
///
/// Shared by reference count: a snapshot holds one, and a commit copies it only while a snapshot does.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) segments: Vec<Live>,
    pub(crate) fresh: BTreeSet<ById>,
    pub(crate) dimension: Option<usize>,
    /// Number of the last commit.
    pub(crate) seq: u64,
    /// What the commits that the segments lack removed.
    pub(crate) removals: Removals,
}

impl State {
    pub(crate) fn count(&self) -> usize {
        self.segments.iter().map(Live::alive).sum::<usize>() + self.fresh.len()
    }

    pub(crate) fn find(&self, id: &str) -> Result<Option<Place>> {
        if let Some(memory) = self.fresh.get(id) {
            return Ok(Some(Place::Fresh(memory.0.clone())));
        }
        for (index, live) in self.segments.iter().enumerate().rev() {
            if let Some(row) = live.find(id)? {
                return Ok(Some(Place::Row(index, row)));
            }
        }
        Ok(None)
    }

    /// Applies one commit. The places are looked up first, so that an error changes nothing.
    pub(crate) fn apply(&mut self, operations: Vec<Operation>) -> Result<()> {
        let changes = self.look_up(&operations)?;
        self.carry_out(operations, changes);
        Ok(())
    }

    /// What a commit will change.
    pub(crate) fn look_up(&self, operations: &[Operation]) -> Result<Changes> {
        let ids = operations.iter().map(|operation| match operation {
            Operation::Put(memory) => memory.id.as_str(),
            Operation::Delete(id) => id,
        });
        let mut gone = Vec::new();
        let mut removed = Removed::default();
        for id in ids {
            let place = self.find(id)?;
            if place.is_some() {
                removed.add(id);
            }
            if let Some(Place::Row(segment, row)) = place {
                gone.push((segment, row));
            }
        }
        Ok(Changes { gone, removed })
    }

    /// Applies one commit, whose `changes` were looked up in this state.
    pub(crate) fn carry_out(&mut self, operations: Vec<Operation>, changes: Changes) {
        for (segment, row) in changes.gone {
            Arc::make_mut(&mut self.segments[segment].dead).insert(row);
        }
        for operation in operations {
            match operation {
                Operation::Put(memory) => {
                    self.dimension.get_or_insert(memory.embedding.len());
                    self.fresh.replace(ById(memory));
                }
                Operation::Delete(id) => {
                    self.fresh.remove(id.as_str());
                }
            }
        }
        self.seq += 1;
        self.removals.note(self.seq, changes.removed);
    }

    /// Hides what the commits that are missing before a readable one removed, which `removals` tells: everything,
    /// when that is not known. Returns whether it was.
    pub(crate) fn hide(&mut self, removals: Option<&Removals>) -> Result<bool> {
        let first = self.seq + 1;
        let Some(ids) = removals.and_then(|removals| removals.since(first)) else {
            for live in &mut self.segments {
                live.dead = Arc::new(Bitmap::full(live.segment.rows()));
            }
            self.fresh.clear();
            return Ok(false);
        };
        for id in ids {
            self.remove(id)?;
        }
        Ok(true)
    }

    fn remove(&mut self, id: &str) -> Result<()> {
        match self.find(id)? {
            Some(Place::Row(segment, row)) => {
                Arc::make_mut(&mut self.segments[segment].dead).insert(row);
            }
            Some(Place::Fresh(_)) => {
                self.fresh.remove(id);
            }
            None => {}
        }
        Ok(())
    }

    /// Applies one commit that removes memories and takes in those of another store, whose segments come to
    /// stand behind the own ones.
    pub(crate) fn absorb(&mut self, other: &Self, gone: &[String]) -> Result<()> {
        let taken = Merged::new(other.segments.clone(), &other.fresh)?;
        let taken = taken.order.iter().map(|&place| taken.id(place));
        for id in taken.chain(gone.iter().map(|id| Ok(id.as_str()))) {
            self.remove(id?)?;
        }
        self.dimension = self.dimension.or(other.dimension);
        self.segments.extend(other.segments.iter().cloned());
        self.fresh.extend(other.fresh.iter().cloned());
        self.seq += 1;
        Ok(())
    }
}
