//! The right to write: commits go to the log, and from there into segments.

use crate::error::{At, Error, Result};
use crate::flush::{self, Check, Rewrite};
use crate::frame::{Body, Operation};
use crate::log::Log;
use crate::recovery::{self, Loaded};
use crate::segment::{Segment, lock as hold};
use crate::state::State;
use crate::store::Durability;
use crate::sync::{Pending, Syncer, Timer};
use crate::vfs::{Vfs, VfsLock};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A log this long is flushed.
const FLUSH_BYTES: u64 = 16 << 20;
/// A commit this large goes straight into a segment: it would be written twice otherwise.
const BULK_BYTES: usize = 4 << 20;

/// Everything a writing handle has beside the state.
///
/// Locks are taken in the order `log`, then the state, then those of the syncer. A thread appends under `log`
/// and syncs without it.
#[derive(Debug)]
pub(crate) struct Writer {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    log: Mutex<Option<OpenLog>>,
    syncer: Arc<Syncer>,
    /// Started by the first commit that is batched.
    timer: Mutex<Option<Timer>>,
}

#[derive(Debug)]
struct OpenLog {
    log: Log,
    number: u64,
    flush_at: u64,
    _lock: Box<dyn VfsLock>,
}

/// A commit that is applied but may not be durable.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) operations: usize,
    /// Where to sync, up to which byte of which log; none when it is durable already.
    pending: Option<Pending>,
}

type Shared = RwLock<Arc<State>>;

impl Writer {
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        lock: Box<dyn VfsLock>,
        loaded: &Loaded,
    ) -> Result<Self> {
        let entry = &loaded.state.manifest.log;
        let clean = loaded.closed && loaded.torn_bytes == 0;
        let log = Log::resume(
            vfs.as_ref(),
            &loaded.log_path,
            entry.salt,
            loaded.log_end,
            clean,
        )?;
        Ok(Self {
            syncer: Arc::new(Syncer::new(dir, entry.number, log.end)),
            timer: Mutex::new(None),
            log: Mutex::new(Some(OpenLog {
                flush_at: FLUSH_BYTES,
                number: entry.number,
                log,
                _lock: lock,
            })),
            dir: dir.to_owned(),
            vfs,
        })
    }

    /// Applies the operations that `prepare` makes of the state. Nothing is written when it makes none.
    pub(crate) fn commit(
        &self,
        shared: &Shared,
        check: Check<'_>,
        prepare: impl FnOnce(&State) -> Result<Vec<Operation>>,
    ) -> Result<Saved> {
        let mut guard = hold(&self.log);
        let open = self.open_log(&mut guard)?;
        let state = shared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let operations = prepare(&state)?;
        let count = operations.len();
        let done = Saved {
            operations: count,
            pending: None,
        };
        if count == 0 {
            return Ok(done);
        }
        if size_bytes(&operations) >= BULK_BYTES {
            let mut next = State::clone(&state);
            next.apply(operations)?;
            drop(state);
            self.flush_into(open, shared, &next, Rewrite::Few, check)?;
            return Ok(done);
        }
        let seq = state.seq + 1;
        drop(state);
        self.in_place()?;
        let body = Body::Operations(operations);
        if let Err((error, whole)) = open.log.append(seq, self.syncer.durable(), &body) {
            if !whole {
                self.syncer.stop(&error);
            }
            return Err(error);
        }
        self.syncer.wrote(open.log.end);
        let Body::Operations(operations) = body else {
            return Ok(done);
        };
        self.apply(shared, operations)?;
        if open.log.end >= open.flush_at && self.try_flush(open, shared, check) {
            return Ok(done);
        }
        Ok(Saved {
            operations: count,
            pending: Some(Pending {
                file: open.log.file.clone(),
                log_number: open.number,
                end: open.log.end,
            }),
        })
    }

    /// Applies what `take` makes of the state with segments that are not this store's, which stand behind its own.
    pub(crate) fn absorb(
        &self,
        shared: &Shared,
        check: Check<'_>,
        take: impl FnOnce(&mut State) -> Result<()>,
    ) -> Result<()> {
        let mut guard = hold(&self.log);
        let open = self.open_log(&mut guard)?;
        let state = shared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut next = State::clone(&state);
        let own = next.segments.len();
        take(&mut next)?;
        drop(state);
        self.flush_into(open, shared, &next, Rewrite::Foreign { own }, check)
    }

    /// Makes the state what the log already says. Failing here leaves them apart, so writing stops.
    fn apply(&self, shared: &Shared, operations: Vec<Operation>) -> Result<()> {
        let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
        let applied = Arc::make_mut(&mut state).apply(operations);
        applied.inspect_err(|error| self.syncer.stop(error))
    }

    /// Flushes a long log. Failing is not the commit's failure: it is safe in the log, which grows on.
    fn try_flush(&self, open: &mut OpenLog, shared: &Shared, check: Check<'_>) -> bool {
        let state = shared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let flushed = self
            .flush_into(open, shared, &state, Rewrite::Few, check)
            .is_ok();
        if !flushed {
            open.flush_at = open.log.end + FLUSH_BYTES;
        }
        flushed
    }

    /// Waits until a commit is as durable as was asked for.
    pub(crate) fn make_durable(&self, saved: Saved, durability: Durability) -> Result<()> {
        if saved.operations == 0 {
            return Ok(());
        }
        self.sync(saved, durability)?;
        self.in_place()
    }

    /// Fails, for good, once the folder or the lock are not those that were opened: what is acknowledged
    /// then, another writer does not know of.
    fn in_place(&self) -> Result<()> {
        let found = self.vfs.in_place().at("write to", &self.dir);
        found.inspect_err(|error| self.syncer.stop(error))
    }

    fn sync(&self, saved: Saved, durability: Durability) -> Result<()> {
        let Some(pending) = saved.pending else {
            return Ok(());
        };
        match durability {
            Durability::None => Ok(()),
            Durability::Commit => self.syncer.sync(&pending),
            Durability::Batch => {
                let mut timer = hold(&self.timer);
                if timer.is_none() {
                    let started = Timer::start(self.syncer.clone());
                    *timer = Some(started.at("start a thread for", &self.dir)?);
                }
                let timer = timer.as_ref();
                timer.map_or(Ok(()), |timer| timer.schedule(&self.syncer, pending))
            }
        }
    }

    /// Notes in a new manifest the model that `choose` names, if any.
    pub(crate) fn take_model(
        &self,
        shared: &Shared,
        choose: impl FnOnce(&State) -> Result<Option<String>>,
    ) -> Result<()> {
        let mut guard = hold(&self.log);
        self.open_log(&mut guard)?;
        let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
        let Some(model) = choose(&state)? else {
            return Ok(());
        };
        let mut manifest = state.manifest.as_ref().clone();
        manifest.generation += 1;
        manifest.model = Some(model);
        manifest
            .commit(self.vfs.as_ref(), &self.dir)
            .map_err(|(error, old_stands)| {
                if !old_stands {
                    self.syncer.stop(&error);
                }
                error
            })?;
        Arc::make_mut(&mut state).manifest = Arc::new(manifest);
        Ok(())
    }

    /// Moves the log into a segment.
    pub(crate) fn flush(&self, shared: &Shared, check: Check<'_>) -> Result<()> {
        let mut guard = hold(&self.log);
        let open = self.open_log(&mut guard)?;
        let state = shared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if state.seq == state.manifest.seq {
            return Ok(());
        }
        self.flush_into(open, shared, &state, Rewrite::Sparse, check)
    }

    /// Writes everything into one segment.
    pub(crate) fn compact(&self, shared: &Shared, check: Check<'_>) -> Result<()> {
        let mut guard = hold(&self.log);
        let open = self.open_log(&mut guard)?;
        let mut state = State::clone(
            &shared
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        );
        let mut damaged = false;
        for live in &mut state.segments {
            check()?;
            if live.segment.is_damaged() {
                damaged = true;
                let entry = &live.segment.entry;
                let dimension = state.dimension.unwrap_or_default();
                live.segment = Arc::new(Segment::open(
                    self.vfs.as_ref(),
                    &self.dir,
                    entry,
                    dimension,
                    true,
                )?);
            }
        }
        let whole = state.segments.iter().all(|live| live.dead.count() == 0);
        if !damaged && state.seq == state.manifest.seq && state.segments.len() < 2 && whole {
            return Ok(());
        }
        self.flush_into(open, shared, &state, Rewrite::All, check)
    }

    /// Flushes `state`, which replaces the shared one once it is durable.
    fn flush_into(
        &self,
        open: &mut OpenLog,
        shared: &Shared,
        state: &State,
        rewrite: Rewrite,
        check: Check<'_>,
    ) -> Result<()> {
        self.syncer.running()?;
        let flushed = flush::flush(self.vfs.as_ref(), &self.dir, state, rewrite, check).map_err(
            |(error, old_stands)| {
                if !old_stands {
                    self.syncer.stop(&error);
                }
                error
            },
        )?;
        open.number = flushed.state.manifest.log.number;
        open.log = flushed.log;
        open.flush_at = FLUSH_BYTES;
        self.syncer.replaced(open.number, open.log.end);
        *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(flushed.state);
        for name in flushed.obsolete {
            // What stays behind is removed when the store is next opened.
            let _ = self.vfs.remove(&self.dir.join(name));
        }
        Ok(())
    }

    /// Makes everything durable, moves the log into a segment if `tidy`, and gives up the lock.
    pub(crate) fn close(&self, shared: &Shared, tidy: bool, check: Check<'_>) -> Result<()> {
        let mut guard = hold(&self.log);
        let Some(mut open) = guard.take() else {
            return Ok(());
        };
        if self.syncer.running().is_err() {
            return Ok(());
        }
        if let Err(displaced) = self.in_place() {
            // Nothing more may be written there. What was to become durable by now may still.
            if self.syncer.durable() < open.log.end {
                open.log.file.sync().at("sync the log of", &self.dir)?;
                return Err(displaced);
            }
            return Ok(());
        }
        let state = || {
            shared
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        recovery::restore_vectors(self.vfs.as_ref(), &self.dir, &state())?;
        if self.syncer.durable() < open.log.end {
            open.log.file.sync().at("sync the log of", &self.dir)?;
        }
        let in_log = |state: &State| state.seq > state.manifest.seq;
        if tidy && in_log(&state()) {
            // Failing is no loss: everything is in the log, which stays then.
            let _ = self.flush_into(&mut open, shared, &state(), Rewrite::Sparse, check);
        }
        if !in_log(&state()) || self.syncer.running().is_err() {
            return Ok(());
        }
        let mut manifest = state().manifest.as_ref().clone();
        let known = manifest.log.closed.map(|closed| closed.size_bytes);
        if known == Some(open.log.end) {
            return Ok(());
        }
        let closed = open.log.close(state().seq)?;
        manifest.generation += 1;
        manifest.log.closed = Some(closed);
        manifest
            .commit(self.vfs.as_ref(), &self.dir)
            .map_err(|(error, _)| error)
    }

    fn open_log<'a>(&self, guard: &'a mut Option<OpenLog>) -> Result<&'a mut OpenLog> {
        self.syncer.running()?;
        guard.as_mut().ok_or_else(|| Error::Closed {
            path: self.dir.clone(),
        })
    }
}

fn size_bytes(operations: &[Operation]) -> usize {
    let size = |operation: &Operation| match operation {
        Operation::Put(memory) => memory.size_bytes(),
        Operation::Delete(id) => id.len() + 8,
    };
    operations.iter().map(size).sum()
}
