//! The rows of several segments and of the log, in the order of their ids.

use crate::error::Result;
use crate::memory::Memory;
use crate::state::{ById, Live};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

/// A row: its segment's index, or that of the log, which is one past the last, and the row there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) source: u32,
    pub(crate) row: u32,
}

/// Rows ordered by id. No id is twice among them.
#[derive(Debug)]
pub(crate) struct Merged {
    segments: Vec<Live>,
    fresh: Vec<Arc<Memory>>,
    pub(crate) order: Vec<Place>,
}

impl Merged {
    pub(crate) fn new(segments: Vec<Live>, fresh: &BTreeSet<ById>) -> Result<Self> {
        let fresh: Vec<Arc<Memory>> = fresh.iter().map(|memory| memory.0.clone()).collect();
        let order = order(&segments, &fresh)?;
        Ok(Self {
            segments,
            fresh,
            order,
        })
    }

    pub(crate) fn id(&self, place: Place) -> Result<&str> {
        match self.segments.get(place.source as usize) {
            Some(live) => live.segment.id(place.row as usize),
            None => Ok(&self.fresh[place.row as usize].id),
        }
    }

    pub(crate) fn vector(&self, place: Place) -> Result<Cow<'_, [f32]>> {
        match self.segments.get(place.source as usize) {
            Some(live) => live.segment.vector(place.row as usize),
            None => Ok(Cow::Borrowed(&self.fresh[place.row as usize].embedding)),
        }
    }

    /// Reads the memories at places in merged order; damaged ones that are to be skipped are left out.
    pub(crate) fn read(&self, places: &[Place]) -> Result<Vec<Arc<Memory>>> {
        let memories = |live: &Live, rows: &[usize]| {
            let read = live.segment.memories(rows)?;
            Ok(read
                .into_iter()
                .map(|memory| memory.map(Arc::new))
                .collect())
        };
        let read = self.gather(places, memories, Arc::clone)?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Gives back the memory of what was read of the segments, which together may be larger than memory.
    pub(crate) fn give_back(&self) {
        self.segments
            .iter()
            .for_each(|live| live.segment.give_back());
    }

    /// Reads id and metadata at places in merged order.
    pub(crate) fn metadata(&self, places: &[Place]) -> Result<Vec<(String, Option<String>)>> {
        let texts = |live: &Live, rows: &[usize]| live.segment.metadata(rows);
        let read = self.gather(places, texts, |memory| memory.metadata.clone())?;
        let ids = places.iter().map(|&place| Ok(self.id(place)?.to_owned()));
        ids.zip(read).map(|(id, text)| Ok((id?, text))).collect()
    }

    /// Reads something of each place, all of a segment's at once.
    fn gather<T: Clone>(
        &self,
        places: &[Place],
        of_rows: impl Fn(&Live, &[usize]) -> Result<Vec<Option<T>>>,
        of_fresh: impl Fn(&Arc<Memory>) -> T,
    ) -> Result<Vec<Option<T>>> {
        let mut read = vec![None; places.len()];
        let mut wanted = vec![(Vec::new(), Vec::new()); self.segments.len()];
        for (slot, place) in places.iter().enumerate() {
            match wanted.get_mut(place.source as usize) {
                Some((slots, rows)) => {
                    slots.push(slot);
                    rows.push(place.row as usize);
                }
                None => read[slot] = Some(of_fresh(&self.fresh[place.row as usize])),
            }
        }
        for (live, (slots, rows)) in self.segments.iter().zip(wanted) {
            for (slot, value) in slots.into_iter().zip(of_rows(live, &rows)?) {
                read[slot] = value;
            }
        }
        Ok(read)
    }
}

fn order(segments: &[Live], fresh: &[Arc<Memory>]) -> Result<Vec<Place>> {
    let mut cursors: Vec<_> = segments
        .iter()
        .map(|live| (0..live.segment.rows()).filter(|&row| !live.dead.contains(row)))
        .collect();
    let alive: usize = segments.iter().map(Live::alive).sum();
    let mut order = Vec::with_capacity(alive + fresh.len());
    let mut heads: BinaryHeap<Reverse<(&str, u32, u32)>> = BinaryHeap::new();
    for (source, cursor) in cursors.iter_mut().enumerate() {
        if let Some(row) = cursor.next() {
            heads.push(Reverse((
                segments[source].segment.id(row)?,
                source as u32,
                row as u32,
            )));
        }
    }
    if let Some(first) = fresh.first() {
        heads.push(Reverse((&first.id, segments.len() as u32, 0)));
    }
    while let Some(Reverse((_, source, row))) = heads.pop() {
        order.push(Place { source, row });
        match segments.get(source as usize) {
            Some(live) => {
                if let Some(row) = cursors[source as usize].next() {
                    heads.push(Reverse((live.segment.id(row)?, source, row as u32)));
                }
            }
            None => {
                if let Some(memory) = fresh.get(row as usize + 1) {
                    heads.push(Reverse((&memory.id, source, row + 1)));
                }
            }
        }
    }
    Ok(order)
}
