//! The storage engine of a writing handle: what its threads share.

use crate::error::{Error, Result};
use crate::flush::{self, Check, Draft, Rewrite};
use crate::frame::Operation;
use crate::log::Log;
use crate::segment::lock as hold;
use crate::state::State;
use crate::sync::Syncer;
use crate::vfs::{Vfs, VfsLock};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    TryLockError,
};
use std::time::Duration;

/// A log this long is flushed.
pub(crate) const FLUSH_BYTES: u64 = 16 << 20;
/// While the one before it is being flushed, a log grows to this. Then commits wait.
const MAX_LOG_BYTES: u64 = 256 << 20;
const POLL: Duration = Duration::from_millis(5);

/// Current state of a store, replaced or changed by each commit.
pub(crate) type Shared = Arc<RwLock<Arc<State>>>;

/// Everything a writing handle has beside its threads.
///
/// Locks are taken in the order `moving`, `log`, `state`, then that of the syncer. A thread appends under `log`
/// and syncs without it. Whoever replaces the manifest holds `moving`, but for a writer's first one.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) state: Shared,
    pub(crate) moving: Mutex<()>,
    pub(crate) log: Mutex<Option<OpenLog>>,
    /// Told when a log that may be long is no longer the current one.
    pub(crate) room: Condvar,
    pub(crate) syncer: Arc<Syncer>,
    /// Stops long work, since the store is being closed.
    pub(crate) closing: AtomicBool,
}

/// The log that commits are appended to.
#[derive(Debug)]
pub(crate) struct OpenLog {
    pub(crate) log: Log,
    pub(crate) number: u64,
    pub(crate) flush_at: u64,
    /// Commits since a move began, while one goes on: its outcome lacks them.
    pub(crate) since: Option<Vec<Vec<Operation>>>,
    /// Whether the manifest is one that this writer made durable. One that was found may not be.
    pub(crate) begun: bool,
    pub(crate) lock: Box<dyn VfsLock>,
}

impl Engine {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Arc<State>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Arc<State>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn current(&self) -> Arc<State> {
        self.read().clone()
    }

    /// Waits for the right to replace the manifest.
    pub(crate) fn begin_move(&self, check: Check<'_>) -> Result<MutexGuard<'_, ()>> {
        loop {
            match self.moving.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(guard)) => return Ok(guard.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
            }
            self.go_on(check)?;
        }
    }

    /// Asks whether long work is to stop.
    pub(crate) fn go_on(&self, check: Check<'_>) -> Result<()> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(self.closed());
        }
        check()
    }

    fn closed(&self) -> Error {
        Error::Closed {
            path: self.dir.clone(),
        }
    }

    /// The log, once it has room.
    pub(crate) fn log_with_room(
        &self,
        check: Check<'_>,
    ) -> Result<MutexGuard<'_, Option<OpenLog>>> {
        let mut guard = hold(&self.log);
        let full = |open: &OpenLog| open.since.is_some() && open.log.end >= MAX_LOG_BYTES;
        while guard.as_ref().is_some_and(full) {
            let waited = self.room.wait_timeout(guard, POLL);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
            self.go_on(check)?;
        }
        Ok(guard)
    }

    pub(crate) fn open_log<'a>(&self, guard: &'a mut Option<OpenLog>) -> Result<&'a mut OpenLog> {
        self.syncer.running()?;
        guard.as_mut().ok_or_else(|| self.closed())
    }

    /// Makes the manifest durable before the first commit that stands on it.
    pub(crate) fn begin(&self, open: &mut OpenLog) -> Result<()> {
        if open.begun {
            return Ok(());
        }
        let mut manifest = self.read().manifest.as_ref().clone();
        manifest.generation += 1;
        // Either one names the same files: when it is not known which of them stands, nothing is lost.
        let committed = manifest.commit(self.vfs.as_ref(), &self.dir);
        committed.map_err(|(error, _)| error)?;
        Arc::make_mut(&mut *self.write()).manifest = Arc::new(manifest);
        open.begun = true;
        Ok(())
    }

    /// Writes `state`, which is to replace the current one, into segments while nobody else commits.
    pub(crate) fn flush_now(
        &self,
        open: &mut OpenLog,
        state: &State,
        rewrite: Rewrite,
        check: Check<'_>,
    ) -> Result<()> {
        self.syncer.running()?;
        let mut draft = Draft::write(self.vfs.as_ref(), &self.dir, state, rewrite, check)?;
        let log = draft.begin_log(self.vfs.as_ref(), &self.dir)?;
        self.commit(&mut draft)?;
        open.number = draft.state.manifest.log.number;
        open.log = log;
        open.flush_at = FLUSH_BYTES;
        open.begun = true;
        self.syncer.replaced(open.number, open.log.end);
        *self.write() = Arc::new(draft.state);
        flush::discard(self.vfs.as_ref(), &self.dir, &draft.obsolete);
        Ok(())
    }

    /// Makes a draft the store's. When it is not known whether that came about, writing stops.
    pub(crate) fn commit(&self, draft: &mut Draft) -> Result<()> {
        let committed = draft.commit(self.vfs.as_ref(), &self.dir);
        committed.map_err(|(error, old_stands)| {
            if !old_stands {
                self.syncer.stop(&error);
            }
            error
        })
    }
}
