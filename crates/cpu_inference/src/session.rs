//! One text that grows, with what the model remembers of it.

use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernels::PAGE_KEYS;

use crate::adapter::Adapter;
use crate::batch::check_ids;
use crate::error::{InferenceError, Result};
use crate::kv_cache::{CachePrecision, KvCache};
use crate::model::{Model, Watch};
use crate::pass::{Pass, Segment};
use crate::prediction::{Block, PredictionRequest, Predictions};
use crate::sampler::{Choice, Sampler};
use crate::text::Text;

/// Numbers of texts.
static TEXTS: AtomicU64 = AtomicU64::new(0);

/// A decoder's state after some tokens. Belongs to one caller; what several threads read at the same time
/// from one model runs through the network together, with the results it has alone.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    text: Text,
    max_tokens: usize,
    pass: Pass,
}

impl Session {
    /// An empty session with room for `max_tokens`.
    ///
    /// # Errors
    /// [`InferenceError::WrongArchitecture`] for an encoder; [`InferenceError::Window`] if the model has
    /// fewer positions.
    pub fn new(model: Arc<Model>, max_tokens: usize, precision: CachePrecision) -> Result<Self> {
        let cache = model.cache(precision)?;
        let limit = model.config().max_position_embeddings;
        if max_tokens > limit {
            return Err(InferenceError::Window {
                what: "the model's window",
                limit,
                got: max_tokens,
            });
        }
        let number = TEXTS.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            text: Text::new(number, cache),
            max_tokens,
            pass: Pass::default(),
            model,
        })
    }

    /// Reads the text, which has not begun, with the cards of `adapter`.
    ///
    /// # Errors
    /// [`InferenceError::AdapterTooLate`] once tokens were read; [`InferenceError::MergedAdapter`], for sessions share
    /// passes.
    pub fn adapt(&mut self, adapter: Arc<Adapter>) -> Result<()> {
        let tokens = self.text.tokens.len();
        if tokens > 0 {
            return Err(InferenceError::AdapterTooLate { tokens });
        }
        if adapter.is_merged() {
            return Err(InferenceError::MergedAdapter);
        }
        self.text.adapter = Some(adapter);
        self.text.begin();
        Ok(())
    }

    /// Tokens read so far.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.text.tokens
    }

    /// Most tokens it can hold.
    #[must_use]
    pub const fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Bytes of the cache.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.text.cache.size_bytes()
    }

    /// Logits, `[vocab]`, of the token after the last; empty before the first.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.text.logits
    }

    /// Reads `ids` behind the tokens it has, in chunks. A text that begins as an earlier one of the model
    /// does takes over what was computed of that.
    ///
    /// When interrupted it keeps the chunks that are done.
    ///
    /// # Errors
    /// An id outside the vocabulary, or more tokens than there is room for: then nothing is read.
    /// [`InferenceError::Interrupted`].
    pub fn extend(&mut self, ids: &[i32], watch: Watch<'_>) -> Result<()> {
        self.begin(ids)?;
        if ids.is_empty() {
            return Ok(());
        }
        let mut outcome = Ok(());
        let text = self.lend();
        let (model, numbers) = (Arc::clone(&self.model), [text.number]);
        model
            .batcher()
            .read(&model, &numbers, [text], watch, |text, result| {
                self.text = text;
                outcome = result;
            });
        outcome
    }

    /// As [`Session::extend`], but all of `ids` see each other, and those before.
    ///
    /// # Errors
    /// As [`Session::extend`].
    pub fn extend_whole(&mut self, ids: &[i32], watch: Watch<'_>) -> Result<()> {
        self.check(ids)?;
        if ids.is_empty() {
            return Ok(());
        }
        if !watch() {
            return Err(InferenceError::Interrupted);
        }
        self.text.keep_apart();
        self.text.give(ids);
        let Self {
            model, text, pass, ..
        } = self;
        pass.clear();
        let segment = Segment::Appended {
            cache: 0,
            causal: false,
            keep: true,
        };
        let rows = pass.span(text.unread.iter().copied(), text.cache.len(), &[segment]);
        if let Some(adapter) = &text.adapter {
            pass.adapt(adapter);
        }
        pass.want([rows.end - 1]);
        let mut logits = vec![0.0; model.config().vocab_size];
        model.run(pass, slice::from_mut(&mut text.cache), |states| {
            states.logits(0, &mut logits)
        })?;
        text.advance(ids.len());
        text.logits = logits;
        Ok(())
    }

    /// What the model makes of the rows `wanted` of a block, which sees itself and all tokens read so far and
    /// leaves nothing behind.
    ///
    /// # Errors
    /// As [`predict_all`].
    pub fn predict(
        &mut self,
        ids: &[i32],
        wanted: &[usize],
        request: &PredictionRequest<'_>,
        sampler: &mut Sampler,
    ) -> Result<Predictions> {
        let block = Block {
            ids,
            positions: &[],
            keep: 0,
            is_prefix: false,
            wanted,
            allowed: &[],
            sampler,
        };
        let mut found = predict_all(&mut [self], &mut [block], request, None)?;
        Ok(found.pop().unwrap_or_default())
    }

    /// Forgets the tokens from `len` on; logits are gone until the next token is read.
    pub fn truncate(&mut self, len: usize) {
        if len < self.text.tokens.len() {
            self.text.truncate(len);
        }
    }

    /// Chooses the next token. It is not read: pass it to [`Session::extend`] to go on.
    ///
    /// # Errors
    /// [`InferenceError::TooFewTokens`] while there are no logits; [`InferenceError::NotFinite`].
    pub fn sample(&self, sampler: &mut Sampler) -> Result<Choice> {
        if self.text.logits.is_empty() {
            return Err(InferenceError::TooFewTokens {
                operation: "sampling",
                needed: 1,
                got: 0,
            });
        }
        sampler.sample(&self.text.logits, &self.text.tokens)
    }

    /// Adds the tokens of a block to a pass, behind what was read, which is cache number `cache` of the pass.
    fn frame(&self, pass: &mut Pass, cache: usize, ids: &[i32], block: &Block<'_>) -> Range<usize> {
        let len = self.text.cache.len();
        let prefix = if block.is_prefix { block.keep } else { 0 };
        let apart = [
            Segment::Frozen {
                cache,
                len: len + prefix,
            },
            Segment::Own { causal: false },
        ];
        let behind = [Segment::Appended {
            cache,
            causal: false,
            keep: true,
        }];
        let parts: [(Range<usize>, &[Segment]); 2] = if block.keep > prefix {
            [(0..0, &[]), (0..ids.len(), &behind)]
        } else {
            [(0..prefix, &behind), (prefix..ids.len(), &apart)]
        };
        let first = pass.rows();
        for (rows, segments) in parts {
            if !rows.is_empty() {
                let position = len + rows.start;
                pass.span(ids[rows].iter().map(|&id| id as u32), position, segments);
                if let Some(adapter) = &self.text.adapter {
                    pass.adapt(adapter);
                }
            }
        }
        let positions = block.positions.iter();
        pass.place(
            first,
            positions.map(|&at| u32::try_from(at).unwrap_or(u32::MAX)),
        );
        first..pass.rows()
    }

    /// Keeps the first `count` tokens of a block that a pass appended; the text had `before` positions.
    fn keep(&mut self, before: usize, ids: &[i32], count: usize) {
        self.text.cache.truncate(before + count);
        if count > 0 {
            self.text.keep_apart();
            let kept = ids[..count].iter().map(|&id| id as u32);
            self.text.tokens.extend(kept);
            self.text.logits.clear();
        }
    }

    fn check(&self, ids: &[i32]) -> Result<()> {
        check_ids(ids, self.model.config().vocab_size)?;
        let got = self.text.tokens.len() + ids.len();
        if got > self.max_tokens {
            return Err(InferenceError::Window {
                what: "the session",
                limit: self.max_tokens,
                got,
            });
        }
        Ok(())
    }

    /// Gives the text tokens to read, and what earlier texts have in common with it.
    fn begin(&mut self, ids: &[i32]) -> Result<()> {
        self.check(ids)?;
        self.text.give(ids);
        if ids.len() > PAGE_KEYS {
            self.text.adopt(&mut self.model.prefixes());
        }
        Ok(())
    }

    fn empty_cache(&self) -> KvCache {
        KvCache::new(self.text.cache.shape())
    }

    /// The text, for the batcher to read; an empty one stands in for it.
    fn lend(&mut self) -> Text {
        let stand_in = Text::new(self.text.number, self.empty_cache());
        mem::replace(&mut self.text, stand_in)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.model.batcher().forget(self.text.number);
    }
}

/// Reads `ids[i]` behind the tokens of `sessions[i]`: in common passes if each token sees only those before it,
/// else one text after the other.
///
/// # Errors
/// As [`Session::extend`], and [`InferenceError::Pass`] unless all are of one model and each is given ids: then
/// nothing is read. Of several that fail later the first.
pub fn extend_all(
    sessions: &mut [&mut Session],
    ids: &[&[i32]],
    causal: bool,
    watch: Watch<'_>,
) -> Result<()> {
    let Some(first) = sessions.first() else {
        return Ok(());
    };
    let model = Arc::clone(&first.model);
    let alike = |session: &&mut Session| Arc::ptr_eq(&session.model, &model);
    if sessions.len() != ids.len() || !sessions.iter().all(alike) {
        return Err(InferenceError::Pass {
            detail: format!(
                "expected sessions of one model and ids for each, got {} sessions and {} of ids",
                sessions.len(),
                ids.len()
            ),
        });
    }
    for (session, ids) in sessions.iter().zip(ids) {
        session.check(ids)?;
    }
    if !causal {
        // Whole prompts fill a pass by themselves.
        let mut pairs = sessions.iter_mut().zip(ids);
        return pairs.try_for_each(|(session, ids)| session.extend_whole(ids, watch));
    }
    let mut lent = Vec::new();
    for (session, ids) in sessions
        .iter_mut()
        .zip(ids)
        .filter(|(_, ids)| !ids.is_empty())
    {
        session.begin(ids)?;
        lent.push(session.lend());
    }
    let numbers: Vec<u64> = lent.iter().map(|text| text.number).collect();
    let mut outcome = Ok(());
    model
        .batcher()
        .read(&model, &numbers, lent, watch, |text, result| {
            let number = text.number;
            if let Some(session) = sessions
                .iter_mut()
                .find(|session| session.text.number == number)
            {
                session.text = text;
            }
            if outcome.is_ok() {
                outcome = result;
            }
        });
    outcome
}

/// Texts that lack what those of a pass were told.
pub struct Guidance<'g, 's> {
    /// 1 changes nothing, above 1 leads further away from them.
    pub scale: f32,
    /// One for each text of the pass.
    pub sessions: &'g mut [&'s mut Session],
    /// Their blocks, as long as those of the pass.
    pub ids: &'g [&'g [i32]],
}

/// What the model makes of wanted rows of blocks, in one pass. Each block sees itself and the tokens that its
/// session has read, and leaves behind what it is told to keep. See [`crate::States::predict`] for guidance.
///
/// # Errors
/// As [`Session::extend`]; wanted rows that do not ascend within their block; positions or more to keep than
/// it has tokens; sessions of several models, or not one for each block; [`InferenceError::NotFinite`].
/// Then nothing is kept.
pub fn predict_all<'s>(
    sessions: &mut [&'s mut Session],
    blocks: &mut [Block<'_>],
    request: &PredictionRequest<'_>,
    guidance: Option<Guidance<'_, 's>>,
) -> Result<Vec<Predictions>> {
    let scale = guidance.as_ref().map(|guidance| guidance.scale);
    let (others, other_ids) = guidance.map_or((&mut [][..], &[][..]), |guidance| {
        (guidance.sessions, guidance.ids)
    });
    let Some(model) = sessions.first().map(|first| Arc::clone(&first.model)) else {
        return Ok(Vec::new());
    };
    let ids: Vec<&[i32]> = blocks.iter().map(|block| block.ids).collect();
    let lengths = |ids: &[&[i32]]| ids.iter().map(|ids| ids.len()).collect::<Vec<_>>();
    let alike = |session: &&'s mut Session| Arc::ptr_eq(&session.model, &model);
    if sessions.len() != blocks.len()
        || others.len() != other_ids.len()
        || (scale.is_some() && lengths(&ids) != lengths(other_ids))
        || !sessions.iter().chain(&*others).all(alike)
    {
        return Err(InferenceError::Pass {
            detail: format!(
                "expected sessions of one model for {} blocks, and as many of the same lengths to guide them, \
                 got {} and {}",
                blocks.len(),
                sessions.len(),
                others.len()
            ),
        });
    }
    let mut pass = mem::take(&mut sessions[0].pass);
    pass.clear();
    let mut wanted = Vec::new();
    let texts = sessions.iter().chain(&*others);
    for (cache, (session, ids)) in texts.zip(ids.iter().chain(other_ids)).enumerate() {
        session.check(ids)?;
        if ids.is_empty() {
            return Err(InferenceError::Pass {
                detail: format!("block {cache} has no rows"),
            });
        }
        let block = &blocks[cache % blocks.len()];
        let placed = block.positions.is_empty() || block.positions.len() == ids.len();
        if !placed || block.keep > ids.len() {
            return Err(InferenceError::Pass {
                detail: format!(
                    "a block of {} tokens has {} positions, of which {} are to stay",
                    ids.len(),
                    block.positions.len(),
                    block.keep
                ),
            });
        }
        let rows = session.frame(&mut pass, cache, ids, block);
        let ascend = block.wanted.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascend || block.wanted.last().is_some_and(|&row| row >= ids.len()) {
            return Err(InferenceError::Pass {
                detail: format!(
                    "wanted rows ascend below the {} of their block, got {:?}",
                    ids.len(),
                    block.wanted
                ),
            });
        }
        wanted.extend(block.wanted.iter().map(|row| rows.start + row));
    }
    pass.want(wanted);
    let kept: Vec<usize> = blocks.iter().map(|block| block.keep).collect();
    let before: Vec<usize> = sessions
        .iter()
        .chain(&*others)
        .map(|session| session.text.cache.len())
        .collect();
    let found = with_caches(sessions, others, |caches| {
        model.run(&pass, caches, |states| {
            states.predict(request, blocks, scale)
        })
    });
    sessions[0].pass = pass;
    let texts = sessions.iter_mut().chain(others).zip(before);
    for (place, ((session, before), ids)) in texts.zip(ids.iter().chain(other_ids)).enumerate() {
        let count = if found.is_ok() {
            kept[place % kept.len()]
        } else {
            0
        };
        session.keep(before, ids, count);
    }
    found
}

/// Calls `work` with the caches of texts, which have them back afterwards, whatever happens.
fn with_caches<'s, T>(
    sessions: &mut [&'s mut Session],
    others: &mut [&'s mut Session],
    work: impl FnOnce(&mut [KvCache]) -> T,
) -> T {
    let mut caches: Vec<KvCache> = sessions
        .iter_mut()
        .chain(others.iter_mut())
        .map(|session| {
            let empty = session.empty_cache();
            mem::replace(&mut session.text.cache, empty)
        })
        .collect();
    let result = catch_unwind(AssertUnwindSafe(|| work(&mut caches)));
    for (session, cache) in sessions.iter_mut().chain(others).zip(caches) {
        session.text.cache = cache;
    }
    result.unwrap_or_else(|payload| resume_unwind(payload))
}
