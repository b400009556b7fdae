//! Reading: a view of the store at one commit.

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::log_words::LogWords;
use crate::memory::{Memory, validate_vector};
use crate::merge::Merged;
use crate::state::{Place, State};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use vector_search::{Bitmap, Metric, Query, Scored, TopK, search};

/// An unchanging view. It keeps the files it reads, even when the store removes them.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) state: Arc<State>,
    pub(crate) path: PathBuf,
    /// Whether indexes that are made come to the disk.
    pub(crate) is_writer: bool,
    pub(crate) log_words: Arc<Mutex<LogWords>>,
}

/// How to search.
#[derive(Debug, Clone)]
pub struct SearchOptions<'a> {
    /// Most hits per query.
    pub top_k: usize,
    /// What near means.
    pub metric: Metric,
    /// Least similarity of a hit.
    pub min_similarity: f32,
    /// Condition on the memories.
    pub filter: Option<&'a Filter>,
    /// Most threads that scan.
    pub threads: usize,
}

/// A memory that a search found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The memory.
    pub memory: Arc<Memory>,
    /// Its similarity to the query; higher is nearer.
    pub similarity: f32,
}

/// A hit before its memory is read.
pub(crate) struct Candidate {
    pub(crate) place: Place,
    pub(crate) id: String,
    pub(crate) score: f32,
}

impl Snapshot {
    /// The store.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of memories.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state.count()
    }

    /// Number of memories that satisfy a filter.
    ///
    /// # Errors
    /// `Corrupted` or `Io` when a segment cannot be read.
    pub fn count_where(&self, filter: &Filter) -> Result<usize> {
        let fresh = self
            .state
            .fresh
            .iter()
            .map(|memory| matches(filter, &memory.0));
        let fresh = fresh.filter(|holds| *holds).count();
        let masks =
            (0..self.state.segments.len()).map(|index| Ok(self.mask(index, Some(filter))?.count()));
        Ok(fresh + masks.sum::<Result<usize>>()?)
    }

    /// Length of the vectors, once one was stored or it was declared.
    #[must_use]
    pub fn dimension(&self) -> Option<usize> {
        self.state.dimension
    }

    /// What made the vectors, when the store was told.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.state.manifest.model.as_deref()
    }

    /// What the user should know about damage that was made good, once each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let segments = self.state.segments.iter();
        segments.filter_map(|live| live.segment.warning()).collect()
    }

    /// Number of the last commit.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.state.seq
    }

    /// Reads a memory.
    ///
    /// # Errors
    /// `Corrupted` or `Io` when its segment cannot be read.
    pub fn load(&self, id: &str) -> Result<Option<Arc<Memory>>> {
        Ok(match self.state.find(id)? {
            None => None,
            Some(Place::Fresh(memory)) => Some(memory),
            Some(Place::Row(segment, row)) => {
                let mut read = self.state.segments[segment].segment.memories(&[row])?;
                read.pop().flatten().map(Arc::new)
            }
        })
    }

    /// Reads several memories; `None` for an id that there is none of.
    ///
    /// # Errors
    /// `Corrupted` or `Io` when a segment cannot be read.
    pub fn load_many(&self, ids: &[String]) -> Result<Vec<Option<Arc<Memory>>>> {
        let mut found = vec![None; ids.len()];
        let mut wanted = vec![Vec::new(); self.state.segments.len()];
        for (slot, id) in ids.iter().enumerate() {
            match self.state.find(id)? {
                Some(Place::Row(segment, row)) => wanted[segment].push((row, slot)),
                Some(Place::Fresh(memory)) => found[slot] = Some(memory),
                None => {}
            }
        }
        for (live, mut wanted) in self.state.segments.iter().zip(wanted) {
            wanted.sort_unstable();
            let mut rows: Vec<usize> = wanted.iter().map(|&(row, _)| row).collect();
            rows.dedup();
            let read = live.segment.memories(&rows)?;
            let read: Vec<_> = read
                .into_iter()
                .map(|memory| memory.map(Arc::new))
                .collect();
            for (row, slot) in wanted {
                if let Ok(index) = rows.binary_search(&row) {
                    found[slot].clone_from(&read[index]);
                }
            }
            // Whoever reads many goes through all of the store, batch by batch.
            live.segment.give_back();
        }
        Ok(found)
    }

    /// The ids that satisfy a filter, ascending.
    ///
    /// # Errors
    /// `Corrupted` or `Io` when a segment cannot be read.
    pub fn ids(&self, filter: Option<&Filter>) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for (index, live) in self.state.segments.iter().enumerate() {
            let mask = self.mask(index, filter)?;
            for row in mask.rows(0..mask.len()) {
                ids.push(live.segment.id(row)?.to_owned());
            }
        }
        let fresh = self
            .state
            .fresh
            .iter()
            .filter(|memory| filter.is_none_or(|filter| matches(filter, &memory.0)));
        ids.extend(fresh.map(|memory| memory.0.id.clone()));
        ids.sort_unstable();
        Ok(ids)
    }

    /// All memories in the order of their ids, to be read in batches.
    ///
    /// # Errors
    /// `Corrupted` or `Io` when a segment cannot be read.
    pub fn scan(&self, filter: Option<&Filter>) -> Result<Scan> {
        let mut merged = Merged::new(self.state.segments.clone(), &self.state.fresh)?;
        if let Some(filter) = filter {
            let masks: Vec<Bitmap> = (0..self.state.segments.len())
                .map(|index| self.mask(index, Some(filter)))
                .collect::<Result<_>>()?;
            let fresh: Vec<bool> = self
                .state
                .fresh
                .iter()
                .map(|memory| matches(filter, &memory.0))
                .collect();
            merged
                .order
                .retain(|place| match masks.get(place.source as usize) {
                    Some(mask) => mask.contains(place.row as usize),
                    None => fresh[place.row as usize],
                });
        }
        Ok(Scan { merged, at: 0 })
    }

    /// Finds the nearest memories of each query, best first; equal ones by id.
    ///
    /// # Errors
    /// `Dimension` or `Vector` for a query that does not fit, `Corrupted` or `Io` when reading fails.
    pub fn search(
        &self,
        queries: &[Vec<f32>],
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Vec<Hit>>> {
        let candidates = self.nearest(queries, options)?;
        self.read(candidates)
    }

    /// As [`Self::search`], before the memories are read.
    pub(crate) fn nearest(
        &self,
        queries: &[Vec<f32>],
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        for query in queries {
            let which = || "the query".to_owned();
            validate_vector(query, which)?;
            if let Some(expected) = self.state.dimension
                && expected != query.len()
            {
                return Err(Error::Dimension {
                    which: which(),
                    expected,
                    found: query.len(),
                });
            }
        }
        if self.state.dimension.is_none() || options.top_k == 0 {
            return Ok(queries.iter().map(|_| Vec::new()).collect());
        }
        let queries: Vec<Query> = queries
            .iter()
            .map(|query| Query::new(query.clone(), options.metric))
            .collect();
        let mut candidates = self.search_fresh(&queries, options);
        for index in 0..self.state.segments.len() {
            self.search_segment(index, &queries, options, &mut candidates)?;
        }
        for found in &mut candidates {
            found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
            found.truncate(options.top_k);
        }
        Ok(candidates)
    }

    fn search_fresh(&self, queries: &[Query], options: &SearchOptions<'_>) -> Vec<Vec<Candidate>> {
        let fresh: Vec<&Arc<Memory>> = self
            .state
            .fresh
            .iter()
            .map(|memory| &memory.0)
            .filter(|memory| options.filter.is_none_or(|filter| matches(filter, memory)))
            .collect();
        queries
            .iter()
            .map(|query| {
                let mut best = TopK::new(options.top_k, options.min_similarity);
                for (row, memory) in fresh.iter().enumerate() {
                    best.offer(Scored {
                        row,
                        score: query.similarity(&memory.embedding),
                    });
                }
                let candidate = |scored: Scored| Candidate {
                    place: Place::Fresh(fresh[scored.row].clone()),
                    id: fresh[scored.row].id.clone(),
                    score: scored.score,
                };
                best.into_sorted().into_iter().map(candidate).collect()
            })
            .collect()
    }

    fn search_segment(
        &self,
        index: usize,
        queries: &[Query],
        options: &SearchOptions<'_>,
        candidates: &mut [Vec<Candidate>],
    ) -> Result<()> {
        let live = &self.state.segments[index];
        let mask = self.mask_of(index, options.filter)?;
        let found = search(
            queries,
            live.segment.scan_rows()?,
            mask.as_ref(),
            options.top_k,
            options.min_similarity,
            options.threads,
        );
        for (candidates, found) in candidates.iter_mut().zip(found) {
            for scored in found {
                candidates.push(Candidate {
                    place: Place::Row(index, scored.row),
                    id: live.segment.id(scored.row)?.to_owned(),
                    score: scored.score,
                });
            }
        }
        Ok(())
    }

    /// Reads the memories of all queries' candidates, each segment's at once.
    fn read(&self, candidates: Vec<Vec<Candidate>>) -> Result<Vec<Vec<Hit>>> {
        let places: Vec<Place> = candidates
            .iter()
            .flatten()
            .map(|candidate| candidate.place.clone())
            .collect();
        let mut memories = self.read_places(&places)?.into_iter();
        let mut hit = |candidate: Candidate| {
            let memory = memories.next().flatten();
            memory.map(|memory| Hit {
                memory,
                similarity: candidate.score,
            })
        };
        Ok(candidates
            .into_iter()
            .map(|found| found.into_iter().filter_map(&mut hit).collect())
            .collect())
    }

    /// Reads the memories at places, each segment's at once; `None` for one that is damaged and to be skipped.
    pub(crate) fn read_places(&self, places: &[Place]) -> Result<Vec<Option<Arc<Memory>>>> {
        let mut read: BTreeMap<(usize, usize), Option<Arc<Memory>>> = BTreeMap::new();
        for place in places {
            if let Place::Row(segment, row) = place {
                read.insert((*segment, *row), None);
            }
        }
        for (index, live) in self.state.segments.iter().enumerate() {
            let rows: Vec<usize> = read
                .range((index, 0)..(index + 1, 0))
                .map(|(&(_, row), _)| row)
                .collect();
            if !rows.is_empty() {
                for (&row, memory) in rows.iter().zip(live.segment.memories(&rows)?) {
                    read.insert((index, row), memory.map(Arc::new));
                }
            }
        }
        let memory = |place: &Place| match place {
            Place::Fresh(memory) => Some(memory.clone()),
            Place::Row(segment, row) => read.get(&(*segment, *row)).cloned().flatten(),
        };
        Ok(places.iter().map(memory).collect())
    }

    /// As [`Self::mask`]; none when these are all.
    pub(crate) fn mask_of(&self, index: usize, filter: Option<&Filter>) -> Result<Option<Bitmap>> {
        if filter.is_none() && self.state.segments[index].dead.count() == 0 {
            return Ok(None);
        }
        self.mask(index, filter).map(Some)
    }

    /// The rows of a segment that are there and satisfy a filter.
    fn mask(&self, index: usize, filter: Option<&Filter>) -> Result<Bitmap> {
        let live = &self.state.segments[index];
        let mut mask = match filter {
            Some(filter) => live.segment.matching(filter)?.as_ref().clone(),
            None => Bitmap::full(live.segment.rows()),
        };
        mask.subtract(&live.dead);
        Ok(mask)
    }
}

/// Memories in the order of their ids.
#[derive(Debug)]
pub struct Scan {
    merged: Merged,
    at: usize,
}

impl Scan {
    /// The next memories, at most `most`; none at the end.
    ///
    /// # Errors
    /// `Corrupted` or `Io` when a segment cannot be read.
    pub fn next_batch(&mut self, most: usize) -> Result<Vec<Arc<Memory>>> {
        loop {
            let end = self
                .at
                .saturating_add(most.max(1))
                .min(self.merged.order.len());
            let places = &self.merged.order[self.at..end];
            let read = self.merged.read(places)?;
            self.at = end;
            // A batch may lose all of its rows to damage that is being skipped.
            if !read.is_empty() || self.at == self.merged.order.len() {
                return Ok(read);
            }
        }
    }

    /// Id and metadata of the next memories, at most `most`; none at the end. Neither contents nor vectors are
    /// read. A memory comes without metadata when that is damaged and to be skipped.
    ///
    /// # Errors
    /// `Corrupted` or `Io` when a segment cannot be read.
    pub fn next_metadata(&mut self, most: usize) -> Result<Vec<(String, Option<String>)>> {
        let end = self
            .at
            .saturating_add(most.max(1))
            .min(self.merged.order.len());
        let read = self.merged.metadata(&self.merged.order[self.at..end])?;
        self.merged.give_back();
        self.at = end;
        Ok(read)
    }

    /// Rows still to come, at most.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.merged.order.len() - self.at
    }
}

pub(crate) fn matches(filter: &Filter, memory: &Memory) -> bool {
    let times = (memory.created_at, memory.updated_at);
    filter.selects(&memory.id, times, &memory.metadata)
}
