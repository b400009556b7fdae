//! The right to write: commits go to the log, and from there into segments.

use crate::engine::{Engine, FLUSH_BYTES, OpenLog, Shared};
use crate::error::{At, Error, Result};
use crate::flush::{Check, Rewrite};
use crate::frame::{Body, Commit, MAX_PAYLOAD_BYTES, Operation};
use crate::log::Log;
use crate::mover::Mover;
use crate::options::Durability;
use crate::segment::lock as hold;
use crate::state::State;
use crate::sync::{Pending, Syncer, Timer};
use crate::takeover;
use crate::vfs::{Vfs, VfsLock};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// A commit this large goes straight into a segment: it would be written twice otherwise.
const BULK_BYTES: usize = 4 << 20;

/// A writing handle.
#[derive(Debug)]
pub(crate) struct Writer {
    engine: Arc<Engine>,
    /// Started by the first commit that is batched.
    timer: Mutex<Option<Timer>>,
    mover: Mutex<Mover>,
    /// Whether closing could not make everything durable.
    failed: AtomicBool,
}

/// A commit that is applied but may not be durable.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) operations: usize,
    /// Where to sync, up to which byte of which log; none when it is durable already.
    pending: Option<Pending>,
}

impl Writer {
    /// `begun` tells whether the manifest on disk was made durable by this writer.
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        lock: Box<dyn VfsLock>,
        state: Shared,
        log: Log,
        begun: bool,
    ) -> Self {
        let number = hold_state(&state).manifest.log.number;
        let engine = Engine {
            vfs,
            dir: dir.to_owned(),
            state,
            moving: Mutex::default(),
            syncer: Arc::new(Syncer::new(dir, number, log.end)),
            log: Mutex::new(Some(OpenLog {
                log,
                number,
                flush_at: FLUSH_BYTES,
                since: None,
                begun,
                lock,
            })),
            room: Condvar::new(),
            closing: AtomicBool::new(false),
        };
        Self {
            engine: Arc::new(engine),
            timer: Mutex::new(None),
            mover: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// Applies the operations that `prepare` makes of the state, of about `expected_bytes`. Nothing is written
    /// when it makes none.
    pub(crate) fn commit(
        &self,
        expected_bytes: usize,
        check: Check<'_>,
        mut prepare: impl FnMut(&State) -> Result<Vec<Operation>>,
    ) -> Result<Saved> {
        let engine = &self.engine;
        let mut moving = None;
        if expected_bytes >= BULK_BYTES {
            moving = Some(engine.begin_move(check)?);
        }
        loop {
            let mut guard = engine.log_with_room(check)?;
            let open = engine.open_log(&mut guard)?;
            let state = engine.current();
            let operations = prepare(&state)?;
            let saved = Saved {
                operations: operations.len(),
                pending: None,
            };
            let bytes = size_bytes(&operations);
            if operations.is_empty() {
                return Ok(saved);
            }
            if moving.is_some() && bytes >= BULK_BYTES {
                let mut next = State::clone(&state);
                next.apply(operations)?;
                drop(state);
                engine.flush_now(open, &next, Rewrite::Few, check)?;
                return Ok(saved);
            }
            if bytes <= MAX_PAYLOAD_BYTES {
                let seq = state.seq + 1;
                drop(state);
                return self.append(open, seq, operations);
            }
            // No frame holds it. Whoever waits for the right to replace the manifest must not hold the log.
            drop(guard);
            moving = Some(engine.begin_move(check)?);
        }
    }

    fn append(&self, open: &mut OpenLog, seq: u64, operations: Vec<Operation>) -> Result<Saved> {
        let engine = &self.engine;
        self.go_on(engine.vfs.lock_in_place())?;
        engine.begin(open)?;
        let count = operations.len();
        let changes = engine.read().look_up(&operations)?;
        let body = Body::Operations(operations);
        let appended = open.log.append(&Commit {
            seq,
            durable: engine.syncer.durable(),
            before: &engine.read().removals,
            removed: &changes.removed,
            body: &body,
        });
        if let Err((error, whole)) = appended {
            if !whole {
                engine.syncer.stop(&error);
            }
            return Err(error);
        }
        engine.syncer.wrote(open.log.end);
        if let Body::Operations(operations) = body {
            if let Some(since) = &mut open.since {
                since.push(operations.clone());
            }
            Arc::make_mut(&mut *engine.write()).carry_out(operations, changes);
        }
        if open.log.end >= open.flush_at && hold(&self.mover).start(engine).is_err() {
            // There is no thread to be had now; later, perhaps.
            open.flush_at = open.log.end + FLUSH_BYTES;
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
        check: Check<'_>,
        take: impl FnOnce(&mut State) -> Result<()>,
    ) -> Result<()> {
        let engine = &self.engine;
        let _moving = engine.begin_move(check)?;
        let mut guard = hold(&engine.log);
        let open = engine.open_log(&mut guard)?;
        let mut next = State::clone(&engine.current());
        let own = next.segments.len();
        take(&mut next)?;
        engine.flush_now(open, &next, Rewrite::Foreign { own }, check)
    }

    /// Waits until a commit is as durable as was asked for.
    pub(crate) fn make_durable(&self, saved: Saved, durability: Durability) -> Result<()> {
        if saved.operations == 0 {
            return Ok(());
        }
        // An append looked just before it wrote; only who has waited since must look again.
        let has_waited = saved.pending.is_none() || matches!(durability, Durability::Commit);
        self.sync(saved, durability)?;
        if has_waited { self.in_place() } else { Ok(()) }
    }

    /// Fails, for good, once the folder or the lock are not those that were opened: what is acknowledged
    /// then, another writer does not know of.
    fn in_place(&self) -> Result<()> {
        self.go_on(self.engine.vfs.in_place())
    }

    fn go_on(&self, in_place: std::io::Result<()>) -> Result<()> {
        let engine = &self.engine;
        let found = in_place.at("write to", &engine.dir);
        found.inspect_err(|error| engine.syncer.stop(error))
    }

    fn sync(&self, saved: Saved, durability: Durability) -> Result<()> {
        let Some(pending) = saved.pending else {
            return Ok(());
        };
        let syncer = &self.engine.syncer;
        match durability {
            Durability::None => Ok(()),
            Durability::Commit => syncer.sync(&pending),
            Durability::Batch => {
                let mut timer = hold(&self.timer);
                if timer.is_none() {
                    let started = Timer::start(syncer.clone());
                    *timer = Some(started.at("start a thread for", &self.engine.dir)?);
                }
                let timer = timer.as_ref();
                timer.map_or(Ok(()), |timer| timer.schedule(syncer, pending))
            }
        }
    }

    /// Notes in a new manifest the model that `choose` names, if any.
    pub(crate) fn take_model(
        &self,
        choose: impl FnOnce(&State) -> Result<Option<String>>,
    ) -> Result<()> {
        let engine = &self.engine;
        let _moving = hold(&engine.moving);
        let mut guard = hold(&engine.log);
        let open = engine.open_log(&mut guard)?;
        let mut state = engine.write();
        let Some(model) = choose(&state)? else {
            return Ok(());
        };
        let mut manifest = state.manifest.as_ref().clone();
        manifest.generation += 1;
        manifest.model = Some(model);
        manifest
            .commit(engine.vfs.as_ref(), &engine.dir)
            .map_err(|(error, old_stands)| {
                if !old_stands {
                    engine.syncer.stop(&error);
                }
                error
            })?;
        open.begun = true;
        Arc::make_mut(&mut state).manifest = Arc::new(manifest);
        Ok(())
    }

    /// Moves the log into a segment.
    pub(crate) fn flush(&self, check: Check<'_>) -> Result<()> {
        self.engine.syncer.running()?;
        let _moving = self.engine.begin_move(check)?;
        self.engine.flush(Rewrite::Sparse, check)
    }

    /// Writes everything into one segment.
    pub(crate) fn compact(&self, check: Check<'_>) -> Result<()> {
        let engine = &self.engine;
        engine.syncer.running()?;
        let _moving = engine.begin_move(check)?;
        engine.compact(check)?;
        // Nothing may have been moved, and the file of an index be missing or damaged all the same.
        let vfs = engine.vfs.as_ref();
        for live in &engine.current().segments {
            engine.go_on(check)?;
            let is_damaged = live.segment.text_index_damage(vfs, &engine.dir).is_some();
            let _ = live
                .segment
                .restore_text_index(vfs, &engine.dir, is_damaged);
        }
        Ok(())
    }

    /// Makes the indexes of all segments again.
    pub(crate) fn rebuild_text_index(&self, check: Check<'_>) -> Result<()> {
        let engine = &self.engine;
        engine.syncer.running()?;
        let _moving = engine.begin_move(check)?;
        for live in &engine.current().segments {
            engine.go_on(check)?;
            live.segment
                .restore_text_index(engine.vfs.as_ref(), &engine.dir, true)?;
        }
        Ok(())
    }

    /// Keeps the files as they are until the guard is dropped, but for the end of the log.
    pub(crate) fn hold_files(&self, check: Check<'_>) -> Result<MutexGuard<'_, ()>> {
        self.engine.begin_move(check)
    }

    /// Makes everything durable, moves the log into a segment if `tidy`, and gives up the lock.
    ///
    /// Once commits may be lost, this says so each time.
    pub(crate) fn close(&self, tidy: bool, check: Check<'_>) -> Result<()> {
        let engine = &self.engine;
        engine.closing.store(true, Ordering::SeqCst);
        hold(&self.mover).join();
        let _moving = hold(&engine.moving);
        let Some(mut open) = hold(&engine.log).take() else {
            return self.outcome();
        };
        let displaced = self.in_place();
        if engine.syncer.durable() < open.log.end {
            let synced = self.sync_to_the_end(&open);
            let lost = displaced.is_err() || synced.is_err();
            self.failed.store(lost, Ordering::SeqCst);
            displaced.and(synced)?;
        }
        if engine.syncer.running().is_err() {
            // Nothing more may be written, and all that was acknowledged is there.
            return Ok(());
        }
        // From here on failing is no loss: everything is in the log, which stays then.
        if tidy && !engine.is_flushed() {
            let _ = engine.flush_now(&mut open, &engine.current(), Rewrite::Sparse, check);
        }
        if !engine.is_flushed() && engine.syncer.running().is_ok() {
            let _ = self.note_closed(&mut open);
        }
        let (vfs, state) = (engine.vfs.as_ref(), engine.current());
        takeover::restore_vectors(vfs, &engine.dir, &state);
        if tidy {
            for live in state.segments.iter().take_while(|_| check().is_ok()) {
                let _ = live.segment.restore_text_index(vfs, &engine.dir, false);
            }
        }
        drop(open.lock);
        Ok(())
    }

    /// Before anything that can fail for other reasons.
    fn sync_to_the_end(&self, open: &OpenLog) -> Result<()> {
        let syncer = &self.engine.syncer;
        if syncer.running().is_err() {
            // It may help what was acknowledged before the failure.
            let _ = open.log.file.sync();
        }
        syncer.sync(&Pending {
            file: open.log.file.clone(),
            log_number: open.number,
            end: open.log.end,
        })
    }

    fn outcome(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            return self.engine.syncer.running();
        }
        Ok(())
    }

    /// Notes in the manifest what the log is. Without that, the next writer writes its commits anew.
    fn note_closed(&self, open: &mut OpenLog) -> Result<(), (Error, bool)> {
        let engine = &self.engine;
        let state = engine.current();
        let mut manifest = state.manifest.as_ref().clone();
        let known = manifest.log.closed.map(|closed| closed.size_bytes);
        if known == Some(open.log.end) {
            return Ok(());
        }
        let closed = open.log.close(&state, &mut manifest.log);
        closed.map_err(|error| (error, true))?;
        manifest.generation += 1;
        manifest.commit(engine.vfs.as_ref(), &engine.dir)
    }
}

fn hold_state(state: &Shared) -> Arc<State> {
    let state = state.read();
    state
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone()
}

fn size_bytes(operations: &[Operation]) -> usize {
    let size = |operation: &Operation| match operation {
        Operation::Put(memory) => memory.size_bytes(),
        Operation::Delete(id) => id.len() + 8,
    };
    operations.iter().map(size).sum()
}
