//! Searching by words, alone or beside vectors.

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::log_words::LogWords;
use crate::memory::Memory;
use crate::segment::lock;
use crate::snapshot::{Candidate, SearchOptions, Snapshot, matches};
use crate::state::Place;
use crate::text_index::OpenIndex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use text_search::{Accumulator, Bm25, Found, Query, Scorer, Statistics};
use vector_search::{Bitmap, TopK};

thread_local! {
    /// Scores of the last query, whose memory the next one takes over.
    static SCORES: RefCell<Accumulator> = RefCell::default();
}

/// How to search by words.
#[derive(Debug, Clone)]
pub struct TextOptions<'a> {
    /// Most hits.
    pub top_k: usize,
    /// Condition on the memories.
    pub filter: Option<&'a Filter>,
    /// What shapes a score.
    pub bm25: Bm25,
}

/// How the words were looked for. All memories were searched in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IndexState {
    /// In indexes that were there.
    Fresh,
    /// An index was missing or damaged and was made for this query; closing the store keeps it.
    Building,
    /// An index is missing or damaged, and this handle may not write one: it is in memory.
    Degraded,
}

/// What a search by words found.
#[derive(Debug, Clone)]
pub struct TextReply {
    /// Memories and their scores, best first; equal ones by id.
    pub hits: Vec<(Arc<Memory>, f32)>,
    /// How they were looked for.
    pub state: IndexState,
}

/// A memory that one of two searches found, and what both say of it.
#[derive(Debug, Clone)]
pub struct BothHit {
    /// The memory.
    pub memory: Arc<Memory>,
    /// Its similarity to the vector.
    pub similarity: f32,
    /// Its score for the words, 0 when it has none of them.
    pub score: f32,
}

/// What a search by vector and words found.
#[derive(Debug, Clone)]
pub struct BothReply {
    /// The best of each, by similarity, then by score, then by id.
    pub hits: Vec<BothHit>,
    /// How the words were looked for.
    pub state: IndexState,
}

/// What a search by words found, before memories are read.
struct Words {
    candidates: Vec<Candidate>,
    /// The scores of the places that were asked about.
    wanted: Vec<f32>,
    state: IndexState,
}

impl Snapshot {
    /// Finds the memories that hold words of a query, best first; equal ones by id. Any text is a query.
    ///
    /// # Errors
    /// `Invalid` for settings out of range, `Corrupted` or `Io` when reading fails.
    pub fn search_text(&self, query: &str, options: &TextOptions<'_>) -> Result<TextReply> {
        let found = self.search_words(&Query::new(query), options, &[])?;
        let places: Vec<Place> = found
            .candidates
            .iter()
            .map(|candidate| candidate.place.clone())
            .collect();
        let memories = self.read_places(&places)?.into_iter().zip(found.candidates);
        Ok(TextReply {
            hits: memories
                .filter_map(|(memory, candidate)| Some((memory?, candidate.score)))
                .collect(),
            state: found.state,
        })
    }

    /// Finds the memories nearest to a vector and those that hold words of a query, `top_k` of each, and tells
    /// similarity and score of all of them.
    ///
    /// # Errors
    /// As [`Self::search`] and [`Self::search_text`].
    pub fn search_both(
        &self,
        vector: &[f32],
        query: &str,
        options: &SearchOptions<'_>,
        bm25: Bm25,
    ) -> Result<BothReply> {
        let nearest = self
            .nearest(&[vector.to_vec()], options)?
            .pop()
            .unwrap_or_default();
        let places: Vec<Place> = nearest
            .iter()
            .map(|candidate| candidate.place.clone())
            .collect();
        let text = TextOptions {
            top_k: options.top_k,
            filter: options.filter,
            bm25,
        };
        let found = self.search_words(&Query::new(query), &text, &places)?;
        let vector = vector_search::Query::new(vector.to_vec(), options.metric);
        let mut hits: HashMap<String, (Place, f32, f32)> = HashMap::new();
        for (near, score) in nearest.into_iter().zip(found.wanted) {
            hits.insert(near.id, (near.place, near.score, score));
        }
        for candidate in found.candidates {
            if let Entry::Vacant(new) = hits.entry(candidate.id) {
                let similarity = self.similarity(&vector, &candidate.place)?;
                new.insert((candidate.place, similarity, candidate.score));
            }
        }
        let mut hits: Vec<(String, (Place, f32, f32))> = hits.into_iter().collect();
        hits.sort_by(|(a, (_, near_a, score_a)), (b, (_, near_b, score_b))| {
            near_b
                .total_cmp(near_a)
                .then_with(|| score_b.total_cmp(score_a))
                .then_with(|| a.cmp(b))
        });
        let places: Vec<Place> = hits.iter().map(|(_, (place, ..))| place.clone()).collect();
        let memories = self.read_places(&places)?.into_iter().zip(hits);
        let hits = memories.filter_map(|(memory, (_, (_, similarity, score)))| {
            Some(BothHit {
                memory: memory?,
                similarity,
                score,
            })
        });
        Ok(BothReply {
            hits: hits.collect(),
            state: found.state,
        })
    }

    fn similarity(&self, query: &vector_search::Query, place: &Place) -> Result<f32> {
        Ok(match place {
            Place::Row(segment, row) => {
                let segment = &self.state.segments[*segment].segment;
                query.similarity(&segment.vector(*row)?)
            }
            Place::Fresh(memory) => query.similarity(&memory.embedding),
        })
    }

    fn search_words(
        &self,
        query: &Query,
        options: &TextOptions<'_>,
        wanted: &[Place],
    ) -> Result<Words> {
        validate(options.bm25)?;
        let mut state = IndexState::Fresh;
        let mut indexes = Vec::with_capacity(self.state.segments.len());
        for live in &self.state.segments {
            let (index, is_made) = live.segment.text_index()?;
            state = state.max(self.state_of(&index, is_made));
            indexes.push(index);
        }
        loop {
            let damaged = match self.look_up(query, options, wanted, &indexes) {
                Ok((candidates, wanted)) => {
                    return Ok(Words {
                        candidates,
                        wanted,
                        state,
                    });
                }
                Err(Failure::Index(index, _)) if indexes[index].is_on_disk => index,
                // Made of the table, an index is sound.
                Err(Failure::Index(_, error)) => {
                    return Err(Error::corrupted(&self.path, 0, error.to_string()));
                }
                Err(Failure::Store(error)) => return Err(error),
            };
            let segment = &self.state.segments[damaged].segment;
            indexes[damaged] = segment.mend_text_index(&indexes[damaged])?;
            state = state.max(self.state_of(&indexes[damaged], true));
        }
    }

    fn state_of(&self, index: &OpenIndex, is_made: bool) -> IndexState {
        match (index.is_on_disk, self.is_writer, is_made) {
            (true, ..) | (false, true, false) => IndexState::Fresh,
            (false, true, true) => IndexState::Building,
            (false, false, _) => IndexState::Degraded,
        }
    }

    /// Looks for the words in all segments and in the log; returns the best, and the scores of `wanted` places.
    fn look_up(
        &self,
        query: &Query,
        options: &TextOptions<'_>,
        wanted: &[Place],
        indexes: &[Arc<OpenIndex>],
    ) -> Result<(Vec<Candidate>, Vec<f32>), Failure> {
        let mut statistics = Statistics::new(query);
        let mut found = Vec::with_capacity(indexes.len());
        for (index, (open, live)) in indexes.iter().zip(&self.state.segments).enumerate() {
            let dead = (live.dead.count() > 0).then_some(live.dead.as_ref());
            let of_segment = open.index.find(query).and_then(|found| {
                found.count(dead, &mut statistics)?;
                Ok(found)
            });
            found.push(of_segment.map_err(|error| Failure::Index(index, error))?);
        }
        self.with_log(|log, alive| log.words.find(query).count(alive, &mut statistics));
        let mut search = Search {
            options,
            scorer: statistics.scorer(options.bm25),
            wanted,
            scores: vec![0.0; wanted.len()],
            candidates: Vec::new(),
        };
        let mut accumulator = SCORES.take();
        for (index, of_segment) in found.iter().enumerate() {
            self.score_segment(index, of_segment, &mut search, &mut accumulator)?;
        }
        self.with_log(|log, alive| {
            self.score_log(log, alive, query, &mut search, &mut accumulator);
        });
        SCORES.set(accumulator);
        let Search {
            mut candidates,
            scores,
            ..
        } = search;
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        candidates.truncate(options.top_k);
        Ok((candidates, scores))
    }

    fn score_segment(
        &self,
        index: usize,
        found: &Found<'_>,
        search: &mut Search<'_>,
        accumulator: &mut Accumulator,
    ) -> Result<(), Failure> {
        let (slots, rows) = search.wanted_rows(|place| match place {
            Place::Row(segment, row) if *segment == index => Some(*row),
            _ => None,
        });
        let mask = self.mask_of(index, search.options.filter)?;
        let mut best = TopK::new(search.options.top_k, f32::MIN_POSITIVE);
        let scores = found.score(&search.scorer, mask.as_ref(), &rows, accumulator, &mut best);
        search.note(
            &slots,
            scores.map_err(|error| Failure::Index(index, error))?,
        );
        let segment = &self.state.segments[index].segment;
        for scored in best.into_sorted() {
            search.candidates.push(Candidate {
                place: Place::Row(index, scored.row),
                id: segment.id(scored.row)?.to_owned(),
                score: scored.score,
            });
        }
        Ok(())
    }

    fn score_log(
        &self,
        log: &LogWords,
        alive: &Bitmap,
        query: &Query,
        search: &mut Search<'_>,
        accumulator: &mut Accumulator,
    ) {
        let (slots, rows) = search.wanted_rows(|place| match place {
            Place::Fresh(memory) => log.row(memory),
            Place::Row(..) => None,
        });
        let mask = self.mask_of_log(log, alive, search.options.filter);
        let mut best = TopK::new(search.options.top_k, f32::MIN_POSITIVE);
        let found = log.words.find(query);
        let scores = found.score(&search.scorer, &mask, &rows, accumulator, &mut best);
        search.note(&slots, scores);
        for scored in best.into_sorted() {
            search
                .candidates
                .extend(log.memory(scored.row).map(|memory| Candidate {
                    id: memory.id.clone(),
                    place: Place::Fresh(memory),
                    score: scored.score,
                }));
        }
    }

    /// Looks at the words of the log, with the rows that this state has there. No query waits for another's segments.
    fn with_log<T>(&self, look: impl FnOnce(&LogWords, &Bitmap) -> T) -> T {
        let mut log = lock(&self.log_words);
        let alive = log.follow(&self.state);
        look(&log, &alive)
    }

    fn mask_of_log(&self, log: &LogWords, alive: &Bitmap, filter: Option<&Filter>) -> Bitmap {
        let Some(filter) = filter else {
            return alive.clone();
        };
        let mut mask = Bitmap::empty(alive.len());
        let allowed = self
            .state
            .fresh
            .iter()
            .filter(|memory| matches(filter, &memory.0));
        for row in allowed.filter_map(|memory| log.row(&memory.0)) {
            mask.insert(row);
        }
        mask
    }
}

/// A search on its way through segments and log.
struct Search<'a> {
    options: &'a TextOptions<'a>,
    scorer: Scorer,
    /// Places whose scores are asked for, and these.
    wanted: &'a [Place],
    scores: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Search<'_> {
    /// Where among the wanted places those are that `row` knows, and their rows.
    fn wanted_rows(&self, row: impl Fn(&Place) -> Option<usize>) -> (Vec<usize>, Vec<usize>) {
        let known = self.wanted.iter().enumerate();
        known
            .filter_map(|(slot, place)| Some((slot, row(place)?)))
            .unzip()
    }

    fn note(&mut self, slots: &[usize], scores: Vec<f32>) {
        for (&slot, score) in slots.iter().zip(scores) {
            self.scores[slot] = score;
        }
    }
}

/// Why words could not be looked for.
enum Failure {
    /// The index of this segment is damaged.
    Index(usize, text_search::Error),
    Store(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

fn validate(bm25: Bm25) -> Result<()> {
    let (k1, b) = (bm25.k1, bm25.b);
    if !k1.is_finite() || k1 < 0.0 {
        return Err(Error::invalid(
            "k1",
            "a number of at least 0",
            k1.to_string(),
        ));
    }
    if !(0.0..=1.0).contains(&b) {
        return Err(Error::invalid("b", "a number from 0 to 1", b.to_string()));
    }
    Ok(())
}
