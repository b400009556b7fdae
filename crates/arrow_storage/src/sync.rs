//! What of the current log is durable, and making more of it so: at once, or within a moment.

use crate::error::{At, Error, Result};
use crate::segment::lock as hold;
use crate::vfs::VfsFile;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest time that a batched commit waits for the disk.
const BATCH_TIME: Duration = Duration::from_millis(100);
/// Batched commits of this size do not wait.
const BATCH_BYTES: u64 = 1 << 20;

/// An end of a log up to which it is to be durable.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) log_number: u64,
    pub(crate) end: u64,
}

/// The durable part of the current log.
#[derive(Debug)]
pub(crate) struct Syncer {
    dir: PathBuf,
    /// Number of the current log. Whoever holds it may sync.
    log_number: Mutex<u64>,
    /// End of the current log.
    written: AtomicU64,
    durable: AtomicU64,
    /// Why nothing may be acknowledged any more.
    stopped: OnceLock<String>,
}

impl Syncer {
    pub(crate) fn new(dir: &Path, log_number: u64, end: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            log_number: Mutex::new(log_number),
            written: AtomicU64::new(end),
            durable: AtomicU64::new(end),
            stopped: OnceLock::new(),
        }
    }

    /// Bytes of the current log that are durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }

    /// Notes that the current log was appended to.
    pub(crate) fn wrote(&self, end: u64) {
        self.written.store(end, Ordering::SeqCst);
    }

    /// Notes that a durable log takes the place of the current one.
    pub(crate) fn replaced(&self, log_number: u64, end: u64) {
        let mut current = hold(&self.log_number);
        *current = log_number;
        self.written.store(end, Ordering::SeqCst);
        self.durable.store(end, Ordering::SeqCst);
    }

    /// Has `log_number`, which is durable up to `end`, take the place of the current log, `file`, once that is
    /// durable too: nothing is in a log unless all of the log before it is.
    pub(crate) fn go_on(&self, file: &dyn VfsFile, log_number: u64, end: u64) -> Result<()> {
        let mut current = hold(&self.log_number);
        self.running()?;
        if self.durable() < self.written.load(Ordering::SeqCst) {
            let synced = file.sync().at("sync the log of", &self.dir);
            synced.inspect_err(|error| self.stop(error))?;
        }
        *current = log_number;
        self.written.store(end, Ordering::SeqCst);
        self.durable.store(end, Ordering::SeqCst);
        Ok(())
    }

    /// Returns once a commit is durable. While one thread waits for the disk others append, and the next sync
    /// covers all of theirs.
    pub(crate) fn sync(&self, pending: &Pending) -> Result<()> {
        let current = hold(&self.log_number);
        // A flush made durable what older logs held.
        if *current > pending.log_number || self.durable() >= pending.end {
            return Ok(());
        }
        self.running()?;
        let written = self.written.load(Ordering::SeqCst);
        let synced = pending.file.sync().at("sync the log of", &self.dir);
        synced.inspect_err(|error| self.stop(error))?;
        self.durable.store(written, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn running(&self) -> Result<()> {
        match self.stopped.get() {
            None => Ok(()),
            Some(cause) => Err(Error::Stopped {
                path: self.dir.clone(),
                cause: cause.clone(),
            }),
        }
    }

    pub(crate) fn stop(&self, cause: &Error) {
        let _ = self.stopped.set(format!("it {cause}"));
    }
}

/// Syncs batched commits a moment after the first of them, whether or not others follow.
#[derive(Debug)]
pub(crate) struct Timer {
    due: Arc<(Mutex<Due>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    started_by: u32,
}

#[derive(Debug, Default)]
struct Due {
    pending: Option<Pending>,
    closed: bool,
}

impl Timer {
    /// Starts a thread that ends with the timer.
    pub(crate) fn start(syncer: Arc<Syncer>) -> std::io::Result<Self> {
        let due = Arc::<(Mutex<Due>, Condvar)>::default();
        let shared = due.clone();
        let thread = std::thread::Builder::new()
            .name("aios-sync".to_owned())
            .spawn(move || run(&syncer, &shared))?;
        Ok(Self {
            due,
            thread: Some(thread),
            started_by: std::process::id(),
        })
    }

    /// Has a commit synced, at once when much is waiting.
    pub(crate) fn schedule(&self, syncer: &Syncer, pending: Pending) -> Result<()> {
        if pending.end.saturating_sub(syncer.durable()) >= BATCH_BYTES {
            return syncer.sync(&pending);
        }
        let (due, wake) = &*self.due;
        hold(due).pending = Some(pending);
        wake.notify_one();
        Ok(())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.started_by != std::process::id() {
            // A fork took the memory and not the thread.
            return;
        }
        let (due, wake) = &*self.due;
        hold(due).closed = true;
        wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and closing has synced what it had not.
            let _ = thread.join();
        }
    }
}

fn run(syncer: &Syncer, (due, wake): &(Mutex<Due>, Condvar)) {
    let mut state = hold(due);
    loop {
        state = wake
            .wait_while(state, |due| due.pending.is_none() && !due.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        while !state.closed && begun.elapsed() < BATCH_TIME {
            let left = BATCH_TIME.saturating_sub(begun.elapsed());
            let waited = wake.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closed {
            return;
        }
        if let Some(pending) = state.pending.take() {
            drop(state);
            // A failure stops the writer: the next commit tells, or closing does.
            let _ = syncer.sync(&pending);
            state = hold(due);
        }
    }
}
