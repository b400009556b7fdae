//! Joins the texts that threads read at the same time into passes (continuous batching).
//!
//! There is no thread of its own: of the threads that wait, one computes a pass for all of them, and the next
//! pass is another's. A text joins and leaves at any pass.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kernels::fit;

use crate::error::{InferenceError, Result};
use crate::kv_cache::KvCache;
use crate::model::{Model, Watch};
use crate::pass::{Pass, Segment};
use crate::text::Text;

/// Rows of a pass, beside one for each text that has no part in them.
const ROWS: usize = 256;
/// How long a pass waits for the texts of the one before: their threads have a token to choose first.
const LINGER: Duration = Duration::from_millis(2);
/// How often who waits looks whether to go on.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(crate) struct Batcher {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Memory of the pass that is computed.
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Text>,
    done: Vec<(Text, Result<()>)>,
    /// Some thread computes a pass, or waits a moment for texts to join it.
    computing: bool,
    /// Texts that took part in the last pass and will likely be back.
    expected: Vec<u64>,
}

#[derive(Debug, Default)]
struct Memory {
    texts: Vec<Text>,
    pass: Pass,
    caches: Vec<KvCache>,
    logits: Vec<f32>,
}

impl Batcher {
    /// Reads what is unread of `texts`, whose numbers are `numbers`, together with what other threads read
    /// meanwhile, and gives each back to `done`.
    ///
    /// When interrupted a text keeps what was read.
    pub(crate) fn read(
        &self,
        model: &Model,
        numbers: &[u64],
        texts: impl IntoIterator<Item = Text>,
        watch: Watch<'_>,
        mut done: impl FnMut(Text, Result<()>),
    ) {
        let mut queue = self.lock();
        queue.waiting.extend(texts);
        self.changed.notify_all();
        let mut left = numbers.len();
        let mut asked = None;
        while left > 0 {
            if let Some((text, result)) = queue.take_done(numbers) {
                done(text, result);
                left -= 1;
                continue;
            }
            if queue.computing && asked.is_some_and(|at: Instant| at.elapsed() < LOOK) {
                queue = self.wait(queue, LOOK);
                continue;
            }
            drop(queue);
            let goes_on = watch();
            asked = Some(Instant::now());
            queue = self.lock();
            while !goes_on && let Some(text) = queue.take_waiting(numbers) {
                self.changed.notify_all();
                done(text, Err(InferenceError::Interrupted));
                left -= 1;
            }
            if !queue.computing
                && queue
                    .waiting
                    .iter()
                    .any(|text| numbers.contains(&text.number))
            {
                queue.computing = true;
                queue = self.compute(model, queue);
                asked = None;
            }
        }
    }

    /// A text that ended is not waited for.
    pub(crate) fn forget(&self, number: u64) {
        self.lock().expected.retain(|&other| other != number);
        self.changed.notify_all();
    }

    /// One pass for all who wait.
    fn compute<'a>(&'a self, model: &Model, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let mut queue = self.linger(queue);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut queue.waiting, &mut memory.texts);
        drop(queue);
        let outcome = catch_unwind(AssertUnwindSafe(|| memory.step(model)));
        let mut queue = self.lock();
        queue.expected.clear();
        let Memory { texts, caches, .. } = &mut *memory;
        caches.clear();
        for mut text in texts.drain(..) {
            let result = if let Ok(result) = &outcome {
                result.clone()
            } else {
                text.truncate(0);
                Err(InferenceError::Lost)
            };
            if result.is_ok() && !text.unread().is_empty() {
                queue.waiting.push(text);
            } else {
                queue.expected.push(text.number);
                queue.done.push((text, result));
            }
        }
        queue.computing = false;
        self.changed.notify_all();
        if let Err(payload) = outcome {
            drop(queue);
            resume_unwind(payload);
        }
        queue
    }

    /// Waits a moment for the texts of the last pass, so that they stay together.
    fn linger<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let start = Instant::now();
        while queue
            .expected
            .iter()
            .any(|&number| !queue.is_waiting(number))
            && let Some(left) = LINGER.checked_sub(start.elapsed())
        {
            queue = self.wait(queue, left);
        }
        queue
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, most: Duration) -> MutexGuard<'a, Queue> {
        self.changed
            .wait_timeout(queue, most)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl Queue {
    fn is_waiting(&self, number: u64) -> bool {
        self.waiting.iter().any(|text| text.number == number)
    }

    fn take_waiting(&mut self, numbers: &[u64]) -> Option<Text> {
        let mine = |text: &Text| numbers.contains(&text.number);
        let at = self.waiting.iter().position(mine)?;
        Some(self.waiting.remove(at))
    }

    fn take_done(&mut self, numbers: &[u64]) -> Option<(Text, Result<()>)> {
        let mine = |(text, _): &(Text, _)| numbers.contains(&text.number);
        let at = self.done.iter().position(mine)?;
        Some(self.done.swap_remove(at))
    }
}

impl Memory {
    /// Reads something of every text.
    fn step(&mut self, model: &Model) -> Result<()> {
        let Self {
            texts,
            pass,
            caches,
            logits,
        } = self;
        pass.clear();
        for (cache, text) in texts.iter().enumerate() {
            let room = ROWS.saturating_sub(pass.rows()).max(1);
            let unread = text.unread();
            let count = unread.len().min(room);
            let segment = Segment::Appended {
                cache,
                causal: true,
                keep: true,
            };
            let ids = unread[..count].iter().copied();
            let rows = pass.span(ids, text.cache.len(), &[segment]);
            if let Some(adapter) = &text.adapter {
                pass.adapt(adapter);
            }
            if count == unread.len() {
                pass.want([rows.end - 1]);
            }
        }
        for text in &mut *texts {
            let empty = KvCache::new(text.cache.shape());
            caches.push(std::mem::replace(&mut text.cache, empty));
        }
        let vocab = model.config().vocab_size;
        let outcome = model.run(pass, caches, |states| {
            states.logits(0, fit(logits, states.rows() * vocab))
        });
        for (text, cache) in texts.iter_mut().zip(caches.drain(..)) {
            text.cache = cache;
        }
        outcome?;
        let mut found = logits.chunks_exact(vocab);
        for (text, rows) in texts.iter_mut().zip(pass.span_lengths()) {
            text.advance(rows);
            if text.unread().is_empty()
                && let Some(row) = found.next()
            {
                text.logits.extend_from_slice(row);
            }
        }
        let mut prefixes = model.prefixes();
        for text in texts {
            text.share(&mut prefixes);
        }
        Ok(())
    }
}
