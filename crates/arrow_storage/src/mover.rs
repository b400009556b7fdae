//! Moving commits from the log into segments while others are appended.
//!
//! A second log is begun first. The manifest names both; from then on commits go to the second, and what the
//! first one holds no longer changes. Its segment is written behind everybody's back. A manifest then names the
//! segment in place of the first log, and the commits since are applied to it, as they would be on opening.

use crate::engine::{Engine, FLUSH_BYTES, OpenLog};
use crate::error::{At, Result};
use crate::flush::{self, Check, Draft, Rewrite};
use crate::log::Log;
use crate::manifest::{LogEntry, Manifest, log_name};
use crate::segment::{Segment, lock as hold};
use crate::state::State;
use crate::sync::Pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// So few commits are applied while others wait.
const FEW: usize = 64;

impl Engine {
    /// Moves the log into a segment. The caller holds `moving`.
    pub(crate) fn flush(&self, rewrite: Rewrite, check: Check<'_>) -> Result<()> {
        if self.is_flushed() {
            return Ok(());
        }
        let frozen = self.freeze()?;
        self.rebuild(&frozen, rewrite, check)
    }

    /// Writes everything into one segment. The caller holds `moving`.
    pub(crate) fn compact(&self, check: Check<'_>) -> Result<()> {
        let state = self.current();
        let damaged = state.segments.iter().any(|live| live.segment.is_damaged());
        let whole = state.segments.iter().all(|live| live.dead.count() == 0);
        if !damaged && self.is_flushed() && state.segments.len() < 2 && whole {
            return Ok(());
        }
        drop(state);
        let mut frozen = self.freeze()?;
        if damaged {
            let reopened = self.reopen_damaged(&frozen, check);
            frozen = Arc::new(reopened.inspect_err(|_| self.end_move())?);
        }
        self.rebuild(&frozen, Rewrite::All, check)
    }

    /// Whether the logs hold nothing.
    pub(crate) fn is_flushed(&self) -> bool {
        let state = self.read();
        state.seq == state.manifest.seq && state.manifest.frozen.is_empty()
    }

    /// The state with segments whose vectors, where damaged, are those of their tables.
    fn reopen_damaged(&self, state: &State, check: Check<'_>) -> Result<State> {
        let mut state = state.clone();
        let dimension = state.dimension.unwrap_or_default();
        for live in &mut state.segments {
            self.go_on(check)?;
            if live.segment.is_damaged() {
                let entry = &live.segment.entry;
                let opened = Segment::open(self.vfs.as_ref(), &self.dir, entry, dimension, true)?;
                live.segment = Arc::new(opened);
            }
        }
        Ok(state)
    }

    /// Has commits go to a log of their own from now on; returns the state without them.
    fn freeze(&self) -> Result<Arc<State>> {
        let mut next: Option<(Manifest, Log)> = None;
        loop {
            let mut guard = hold(&self.log);
            let open = self.open_log(&mut guard)?;
            self.begin(open)?;
            let manifest = self.read().manifest.clone();
            if next.is_some() || self.read().seq == manifest.seq {
                if let Some((manifest, log)) = next {
                    self.change_logs(open, manifest, log)?;
                }
                open.since = Some(Vec::new());
                return Ok(self.current());
            }
            let pending = Pending {
                file: open.log.file.clone(),
                log_number: open.number,
                end: open.log.end,
            };
            drop(guard);
            next = Some(self.begin_log(&manifest, pending.end)?);
            // What is left to sync under the lock is little then.
            self.syncer.sync(&pending)?;
        }
    }

    /// Makes an empty log and a manifest that names it behind those before it. Until commits go there, that
    /// manifest says the same as the one before it. Behind a long log another long one is expected.
    fn begin_log(&self, manifest: &Manifest, last_len: u64) -> Result<(Manifest, Log)> {
        let vfs = self.vfs.as_ref();
        let mut manifest = manifest.clone();
        let entry = LogEntry::new(manifest.next_file);
        let name = log_name(entry.number);
        let path = self.dir.join(&name);
        let made = Log::create(vfs, &path, entry.number, entry.salt).and_then(|mut log| {
            if last_len >= FLUSH_BYTES {
                log.reserve(FLUSH_BYTES + FLUSH_BYTES / 4)?;
            }
            vfs.sync_dir(&self.dir).at("sync", &self.dir)?;
            Ok(log)
        });
        manifest.generation += 1;
        manifest.next_file += 1;
        manifest
            .frozen
            .push(std::mem::replace(&mut manifest.log, entry));
        let committed = made
            .map_err(|error| (error, true))
            .and_then(|log| manifest.commit(vfs, &self.dir).map(|()| log));
        match committed {
            Ok(log) => Ok((manifest, log)),
            Err((error, old_stands)) => {
                if old_stands {
                    flush::discard(vfs, &self.dir, &[name]);
                } else {
                    self.syncer.stop(&error);
                }
                Err(error)
            }
        }
    }

    fn change_logs(&self, open: &mut OpenLog, manifest: Manifest, log: Log) -> Result<()> {
        let number = manifest.log.number;
        self.syncer.go_on(open.log.file.as_ref(), number, log.end)?;
        open.log = log;
        open.number = number;
        open.flush_at = FLUSH_BYTES;
        Arc::make_mut(&mut *self.write()).manifest = Arc::new(manifest);
        Ok(())
    }

    /// Writes the segments of `frozen` and has them take its place.
    fn rebuild(&self, frozen: &State, rewrite: Rewrite, check: Check<'_>) -> Result<()> {
        let check = &mut || self.go_on(check);
        let draft = Draft::write(self.vfs.as_ref(), &self.dir, frozen, rewrite, check);
        let draft = draft.and_then(|draft| draft.index_texts(self.vfs.as_ref(), &self.dir, check));
        let moved = draft.and_then(|draft| self.install(draft));
        self.end_move();
        moved
    }

    fn install(&self, mut draft: Draft) -> Result<()> {
        loop {
            let caught_up = self.catch_up(&mut draft.state);
            if caught_up.inspect_err(|_| draft.discard(self.vfs.as_ref(), &self.dir))? <= FEW {
                break;
            }
        }
        self.commit(&mut draft)?;
        let mut guard = hold(&self.log);
        let applied = Self::apply_since(guard.as_mut(), &mut draft.state);
        // The manifest is ahead of the state when this fails.
        applied.inspect_err(|error| self.syncer.stop(error))?;
        let before = std::mem::replace(&mut *self.write(), Arc::new(draft.state));
        drop(guard);
        drop(before);
        flush::discard(self.vfs.as_ref(), &self.dir, &draft.obsolete);
        Ok(())
    }

    /// Applies the commits that came since; returns how many.
    fn catch_up(&self, state: &mut State) -> Result<usize> {
        let mut guard = hold(&self.log);
        let since = guard.as_mut().and_then(|open| open.since.as_mut());
        let commits = since.map(std::mem::take).unwrap_or_default();
        drop(guard);
        let count = commits.len();
        for operations in commits {
            state.apply(operations)?;
        }
        Ok(count)
    }

    fn apply_since(open: Option<&mut OpenLog>, state: &mut State) -> Result<()> {
        for operations in open.and_then(|open| open.since.take()).unwrap_or_default() {
            state.apply(operations)?;
        }
        Ok(())
    }

    fn end_move(&self) {
        if let Some(open) = hold(&self.log).as_mut() {
            open.since = None;
        }
        self.room.notify_all();
    }
}

/// Flushes long logs on a thread of its own.
#[derive(Debug, Default)]
pub(crate) struct Mover {
    thread: Option<JoinHandle<()>>,
    busy: Arc<AtomicBool>,
}

/// Says that nobody is busy, however its thread ends.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Mover {
    /// Has the log flushed, unless that is going on already.
    pub(crate) fn start(&mut self, engine: &Arc<Engine>) -> std::io::Result<()> {
        if self.busy.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let busy = Busy(self.busy.clone());
        let engine = engine.clone();
        let thread = std::thread::Builder::new()
            .name("aios-flush".to_owned())
            .spawn(move || {
                run(&engine);
                drop(busy);
            });
        self.thread = Some(thread?);
        Ok(())
    }

    /// Waits for the thread. It looks at `closing` between slices of its work.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // What a panic leaves undone is in the log.
            let _ = thread.join();
        }
    }
}

/// A failure is no commit's: all of them are safe in the logs, and the next attempt comes when the last one has
/// grown as long again.
fn run(engine: &Engine) {
    let check = &mut || Ok(());
    let moved = engine
        .begin_move(check)
        .and_then(|_moving| engine.flush(Rewrite::Few, check));
    if moved.is_err()
        && let Some(open) = hold(&engine.log).as_mut()
    {
        open.flush_at = open.log.end + FLUSH_BYTES;
    }
}
