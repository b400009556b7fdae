//! The right to write: commits go to the log, and from there into segments.

use crate::error::{At, Error, Result};
use crate::flush::{self, Check, Rewrite};
use crate::frame::{Body, Operation};
use crate::log::Log;
use crate::recovery::{self, Loaded};
use crate::segment::{Segment, lock as hold};
use crate::state::State;
use crate::store::Durability;
use crate::vfs::{Vfs, VfsFile, VfsLock};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// A log this long is flushed.
const FLUSH_BYTES: u64 = 16 << 20;
/// A commit this large goes straight into a segment: it would be written twice otherwise.
const BULK_BYTES: usize = 4 << 20;
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_TIME: Duration = Duration::from_millis(100);

/// Everything a writing handle has beside the state.
///
/// Locks are taken in the order `log`, then the state, then `synced`. A thread appends under `log` and
/// syncs under `synced`, so that while one waits for the disk others append, and its sync covers theirs.
#[derive(Debug)]
pub(crate) struct Writer {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    log: Mutex<Option<OpenLog>>,
    synced: Mutex<Synced>,
    /// End of the current log.
    written: AtomicU64,
    /// Bytes of the current log that are durable.
    durable: AtomicU64,
    /// Why nothing may be acknowledged any more.
    stopped: OnceLock<String>,
}

#[derive(Debug)]
struct OpenLog {
    log: Log,
    number: u64,
    flush_at: u64,
    _lock: Box<dyn VfsLock>,
}

#[derive(Debug)]
struct Synced {
    log_number: u64,
    at: Instant,
}

/// A commit that is applied but may not be durable.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) operations: usize,
    /// Where to sync, up to which byte of which log; none when it is durable already.
    pending: Option<(Arc<dyn VfsFile>, u64, u64)>,
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
            written: AtomicU64::new(log.end),
            durable: AtomicU64::new(log.end),
            synced: Mutex::new(Synced {
                log_number: entry.number,
                at: Instant::now(),
            }),
            log: Mutex::new(Some(OpenLog {
                flush_at: FLUSH_BYTES,
                number: entry.number,
                log,
                _lock: lock,
            })),
            dir: dir.to_owned(),
            stopped: OnceLock::new(),
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
        let body = Body::Operations(operations);
        if let Err((error, whole)) =
            open.log
                .append(seq, self.durable.load(Ordering::SeqCst), &body)
        {
            if !whole {
                self.stop(&error);
            }
            return Err(error);
        }
        self.written.store(open.log.end, Ordering::SeqCst);
        let Body::Operations(operations) = body else {
            return Ok(done);
        };
        self.apply(shared, operations)?;
        if open.log.end >= open.flush_at && self.try_flush(open, shared, check) {
            return Ok(done);
        }
        Ok(Saved {
            operations: count,
            pending: Some((open.log.file.clone(), open.number, open.log.end)),
        })
    }

    /// Makes the state what the log already says. Failing here leaves them apart, so writing stops.
    fn apply(&self, shared: &Shared, operations: Vec<Operation>) -> Result<()> {
        let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
        let applied = Arc::make_mut(&mut state).apply(operations);
        applied.inspect_err(|error| self.stop(error))
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
        let Some((file, log_number, end)) = saved.pending else {
            return Ok(());
        };
        if durability == Durability::None {
            return Ok(());
        }
        let mut synced = hold(&self.synced);
        // A flush made durable what older logs held.
        let durable = || self.durable.load(Ordering::SeqCst);
        if synced.log_number > log_number || durable() >= end {
            return Ok(());
        }
        if durability == Durability::Batch
            && end - durable() < BATCH_BYTES
            && synced.at.elapsed() < BATCH_TIME
        {
            return Ok(());
        }
        self.running()?;
        let written = self.written.load(Ordering::SeqCst);
        file.sync()
            .at("sync the log of", &self.dir)
            .inspect_err(|error| self.stop(error))?;
        self.durable.store(written, Ordering::SeqCst);
        synced.at = Instant::now();
        Ok(())
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
                    self.stop(&error);
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
        self.running()?;
        let flushed = flush::flush(self.vfs.as_ref(), &self.dir, state, rewrite, check).map_err(
            |(error, old_stands)| {
                if !old_stands {
                    self.stop(&error);
                }
                error
            },
        )?;
        let mut synced = hold(&self.synced);
        open.number = flushed.state.manifest.log.number;
        open.log = flushed.log;
        open.flush_at = FLUSH_BYTES;
        synced.log_number = open.number;
        self.written.store(open.log.end, Ordering::SeqCst);
        self.durable.store(open.log.end, Ordering::SeqCst);
        drop(synced);
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
        if self.stopped.get().is_some() {
            return Ok(());
        }
        let state = || shared.read().unwrap_or_else(PoisonError::into_inner).clone();
        recovery::restore_vectors(self.vfs.as_ref(), &self.dir, &state())?;
        if self.durable.load(Ordering::SeqCst) < open.log.end {
            open.log.file.sync().at("sync the log of", &self.dir)?;
        }
        let in_log = |state: &State| state.seq > state.manifest.seq;
        if tidy && in_log(&state()) {
            // Failing is no loss: everything is in the log, which stays then.
            let _ = self.flush_into(&mut open, shared, &state(), Rewrite::Sparse, check);
        }
        if !in_log(&state()) || self.stopped.get().is_some() {
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
        manifest.commit(self.vfs.as_ref(), &self.dir).map_err(|(error, _)| error)
    }

    fn open_log<'a>(&self, guard: &'a mut Option<OpenLog>) -> Result<&'a mut OpenLog> {
        self.running()?;
        guard.as_mut().ok_or_else(|| Error::Closed {
            path: self.dir.clone(),
        })
    }

    fn running(&self) -> Result<()> {
        match self.stopped.get() {
            None => Ok(()),
            Some(cause) => Err(Error::Stopped {
                path: self.dir.clone(),
                cause: cause.clone(),
            }),
        }
    }

    fn stop(&self, cause: &Error) {
        let _ = self.stopped.set(format!("it {cause}"));
    }
}

fn size_bytes(operations: &[Operation]) -> usize {
    let size = |operation: &Operation| match operation {
        Operation::Put(memory) => memory.size_bytes(),
        Operation::Delete(id) => id.len() + 8,
    };
    operations.iter().map(size).sum()
}
