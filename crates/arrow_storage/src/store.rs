//! The store: one handle for writing, any number for reading.

use crate::engine::Shared;
use crate::error::{At, Error, Result};
use crate::follow::Follower;
use crate::frame::Operation;
use crate::lock;
use crate::log::Log;
use crate::log_words::LogWords;
use crate::manifest::Manifest;
use crate::memory::{MAX_DIMENSION, Memory, Patch, now_micros};
use crate::model;
use crate::options::Options;
use crate::recovery::{self, Loaded};
use crate::segment::lock as hold;
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::stats::Stats;
use crate::takeover;
use crate::tombstones;
use crate::vfs::VfsLock;
use crate::writer::{Saved, Writer};
use crate::{Check, Filter};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// An open store. Shared between threads by reference.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    options: Options,
    opened_by: u32,
    state: Shared,
    role: Role,
    log_words: Arc<Mutex<LogWords>>,
    closed: AtomicBool,
    damage: Vec<String>,
    /// Bytes of an unacknowledged commit that opening cut off.
    torn_bytes: u64,
}

#[derive(Debug)]
enum Role {
    Writer(Writer),
    Reader(Mutex<Follower>),
}

/// How often a reader looks again because a writer moved what it was looking at.
const VERIFY_TRIES: usize = 100;

impl Store {
    /// Opens the store in a folder; a writer makes it when there is none.
    ///
    /// # Errors
    /// `Locked`, `NoStore`, `Version`, `Corrupted`, `Dimension`, `Model` and `Io`.
    pub fn open(path: &Path, options: Options, check: Check<'_>) -> Result<Self> {
        validate_options(&options)?;
        // Later the process may work in another folder.
        let path = &std::path::absolute(path).at("find", path)?;
        let mut options = options;
        if !options.read_only {
            options.vfs.create_dir(path).at("create", path)?;
            // From here on the store is this very folder, not what may once be of its name.
            if let Some(folder) = options.vfs.enter(path).at("open", path)? {
                options.vfs = folder;
            }
        }
        let vfs = options.vfs.clone();
        let (loaded, state, role) = if options.read_only {
            let loaded = recovery::load(vfs.as_ref(), path, &[], options.skip_damaged)?;
            check_expectations(&loaded.state, &options)?;
            let follower = Follower::new(vfs.as_ref(), &loaded)?;
            let state = share(loaded.state.clone());
            (loaded, state, Role::Reader(Mutex::new(follower)))
        } else {
            let (loaded, lock, log, begun) = take_over(path, &options, check)?;
            let state = share(loaded.state.clone());
            let writer = Writer::new(vfs, path, lock, state.clone(), log, begun);
            (loaded, state, Role::Writer(writer))
        };
        Ok(Self {
            path: path.to_owned(),
            opened_by: std::process::id(),
            role,
            log_words: Arc::default(),
            closed: AtomicBool::new(false),
            damage: loaded.damage.iter().map(ToString::to_string).collect(),
            torn_bytes: loaded.torn_bytes,
            state,
            options,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A view of the store as it is now.
    ///
    /// # Errors
    /// `Closed`, `Forked`; for a reader, whatever keeps it from following the writer.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.usable()?;
        if let Role::Reader(follower) = &self.role {
            let mut follower = hold(follower);
            let vfs = self.options.vfs.as_ref();
            follower.refresh(vfs, &self.path, &self.state, self.options.skip_damaged)?;
        }
        Ok(self.view(self.current()))
    }

    fn view(&self, state: Arc<State>) -> Snapshot {
        Snapshot {
            state,
            path: self.path.clone(),
            is_writer: matches!(self.role, Role::Writer(_)),
            log_words: self.log_words.clone(),
        }
    }

    /// Stores memories in one commit, replacing those of equal ids; the last of equal ids wins.
    ///
    /// A replaced memory keeps its `created_at` unless `keep_times` says to store the given one.
    ///
    /// # Errors
    /// `Invalid`, `Dimension` and `Vector` before anything is written, and those of writing.
    pub fn save(&self, memories: Vec<Memory>, keep_times: bool, check: Check<'_>) -> Result<()> {
        self.replace(&[], memories, keep_times, check)
    }

    /// As [`Self::save`], and in the same commit removes memories: a crash leaves all of the old ones and
    /// none of the new, or the reverse. An id that is also among the stored ones stays.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn replace(
        &self,
        gone: &[String],
        memories: Vec<Memory>,
        keep_times: bool,
        check: Check<'_>,
    ) -> Result<()> {
        self.write(gone, memories, keep_times, false, check)
    }

    fn write(
        &self,
        gone: &[String],
        memories: Vec<Memory>,
        keep_times: bool,
        new: bool,
        check: Check<'_>,
    ) -> Result<()> {
        let writer = self.writer()?;
        let expected = self.current().dimension;
        validate(&memories, expected)?;
        if keep_times {
            memories.iter().try_for_each(Memory::validate_times)?;
        }
        let mut memories = last_of_each(memories);
        let bytes = memories.iter().map(Memory::size_bytes).sum();
        let saved = writer.commit(bytes, check, |state| {
            // Another thread may have decided the dimension since.
            validate_dimension(&memories, state.dimension)?;
            if new {
                refuse_held(state, &memories)?;
            }
            if !keep_times {
                keep_created_at(state, &mut memories)?;
            }
            let stored: HashSet<&str> = memories.iter().map(|memory| memory.id.as_str()).collect();
            let mut gone = present(state, gone)?;
            gone.retain(|id| !stored.contains(id.as_str()));
            let puts = std::mem::take(&mut memories).into_iter();
            let puts = puts.map(|memory| Operation::Put(Arc::new(memory)));
            Ok(puts
                .chain(gone.into_iter().map(Operation::Delete))
                .collect())
        })?;
        self.finish(writer, saved)
    }

    /// As [`Self::save`], of memories that are new.
    ///
    /// # Errors
    /// `Invalid` when the store holds one of their ids, and as [`Self::save`].
    pub fn insert(&self, memories: Vec<Memory>, keep_times: bool, check: Check<'_>) -> Result<()> {
        self.write(&[], memories, keep_times, true, check)
    }

    /// Takes in all memories of another store and removes those named, in one commit, however large it is: its
    /// segments move here as they are, and only what is in its log is written. Ids that are among both stay.
    /// The other store's times are kept. It is on the same file system, and is of no use any more after this.
    ///
    /// # Errors
    /// `Dimension` before anything is written, and those of reading and of writing.
    pub fn absorb(&self, other: &Snapshot, gone: &[String], check: Check<'_>) -> Result<()> {
        let writer = self.writer()?;
        writer.absorb(check, |state| {
            if let (Some(expected), Some(found)) = (state.dimension, other.state.dimension)
                && expected != found
            {
                return Err(Error::Dimension {
                    which: format!("the vectors of {}", other.path.display()),
                    expected,
                    found,
                });
            }
            state.absorb(&other.state, gone)
        })
    }

    /// Which of some memories [`Self::save`] would refuse, by their place among them, and why.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn refusals(&self, memories: &[Memory]) -> Result<Vec<(usize, Error)>> {
        self.usable()?;
        let expected = self.current().dimension;
        let check = |memory: &Memory| validate(std::slice::from_ref(memory), expected).err();
        let checked = memories.iter().map(check).enumerate();
        Ok(checked
            .filter_map(|(index, error)| error.map(|error| (index, error)))
            .collect())
    }

    /// Changes parts of a memory; false when there is none.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn update(&self, id: &str, patch: Patch, check: Check<'_>) -> Result<bool> {
        let writer = self.writer()?;
        let mut patch = Some(patch);
        let saved = writer.commit(0, check, |state| {
            let view = self.view(Arc::new(state.clone()));
            let Some(mut memory) = view.load(id)?.map(Arc::unwrap_or_clone) else {
                return Ok(Vec::new());
            };
            let patch = patch.take().unwrap_or_default();
            memory.content = patch.content.unwrap_or(memory.content);
            memory.metadata = patch.metadata.unwrap_or(memory.metadata);
            memory.embedding = patch.embedding.unwrap_or(memory.embedding);
            memory.updated_at = now_micros();
            validate(std::slice::from_ref(&memory), state.dimension)?;
            Ok(vec![Operation::Put(Arc::new(memory))])
        })?;
        let changed = saved.operations > 0;
        self.finish(writer, saved)?;
        Ok(changed)
    }

    /// Removes memories in one commit; returns how many there were.
    ///
    /// # Errors
    /// Those of writing.
    pub fn delete(&self, ids: &[String], check: Check<'_>) -> Result<usize> {
        self.delete_found(check, |state| present(state, ids))
    }

    /// Removes the memories that satisfy a filter in one commit; returns how many.
    ///
    /// # Errors
    /// `Invalid` when no memory could fail the filter, unless `everything` says that all are meant; those of
    /// reading and of writing.
    pub fn delete_where(
        &self,
        filter: &Filter,
        everything: bool,
        check: Check<'_>,
    ) -> Result<usize> {
        if !everything && filter.holds_for_all() {
            return Err(Error::invalid(
                "delete_where",
                "a condition that some memory could fail, or everything=True",
                format!("{}, which every memory satisfies", filter.text()),
            ));
        }
        self.delete_found(check, |state| {
            let view = self.view(Arc::new(state.clone()));
            view.ids(Some(filter))
        })
    }

    fn delete_found(
        &self,
        check: Check<'_>,
        find: impl Fn(&State) -> Result<Vec<String>>,
    ) -> Result<usize> {
        let writer = self.writer()?;
        let saved = writer.commit(0, check, |state| {
            Ok(find(state)?.into_iter().map(Operation::Delete).collect())
        })?;
        let gone = saved.operations;
        self.finish(writer, saved)?;
        Ok(gone)
    }

    /// Makes sure that vectors of a model, out of the file `path`, compare with those of the store. An empty
    /// store becomes one of that model.
    ///
    /// # Errors
    /// `ForeignVectors` when the store holds those of another, and those of writing.
    pub fn take_model(&self, path: &Path, given: &str) -> Result<()> {
        let writer = self.writer()?;
        writer.take_model(|state| match &state.manifest.model {
            Some(stored) if model::same(stored, given) => Ok(None),
            _ if state.count() == 0 => Ok(Some(given.to_owned())),
            Some(stored) => Err(Error::ForeignVectors {
                path: path.to_owned(),
                given: given.to_owned(),
                stored: stored.clone(),
            }),
            // Nobody knows what made the vectors that are there.
            None => Ok(None),
        })
    }

    /// Whether the vectors compare with those of a model; so do those of which nobody said what made them.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn is_made_by(&self, model: &str) -> Result<bool> {
        let snapshot = self.snapshot()?;
        Ok(snapshot
            .model()
            .is_none_or(|stored| model::same(stored, model)))
    }

    /// Moves the log into a segment.
    ///
    /// # Errors
    /// Those of writing; the store stays as it was.
    pub fn flush(&self, check: Check<'_>) -> Result<()> {
        self.writer()?.flush(check)
    }

    /// Writes everything into one segment without gaps, and makes damaged vectors and indexes again.
    ///
    /// # Errors
    /// Those of writing; the store stays as it was.
    pub fn compact(&self, check: Check<'_>) -> Result<()> {
        self.writer()?.compact(check)
    }

    /// Makes the index of all texts again, whatever is there of it.
    ///
    /// # Errors
    /// Those of reading the texts and of writing.
    pub fn rebuild_text_index(&self, check: Check<'_>) -> Result<()> {
        self.writer()?.rebuild_text_index(check)
    }

    /// Figures.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn stats(&self) -> Result<Stats> {
        let state = self.snapshot()?.state;
        let sum = |size: fn(&crate::manifest::SegmentEntry) -> u64| {
            state.manifest.segments.iter().map(size).sum()
        };
        let logs = state.manifest.logs().map(|log| {
            let path = self.path.join(crate::manifest::log_name(log.number));
            self.options.vfs.stamp(&path).map_or(0, |stamp| stamp.len)
        });
        let indexes = state.manifest.segments.iter().map(|segment| {
            let name = crate::manifest::text_index_name(segment.number);
            let stamp = self.options.vfs.stamp(&self.path.join(name));
            stamp.map_or(0, |stamp| stamp.len)
        });
        Ok(Stats {
            count: state.count(),
            dimension: state.dimension,
            model: state.manifest.model.clone(),
            segments: state.segments.len(),
            dead_rows: state.segments.iter().map(|live| live.dead.count()).sum(),
            log_rows: state.fresh.len(),
            table_bytes: sum(|segment| segment.table.size_bytes),
            vector_bytes: sum(|segment| segment.vectors.size_bytes),
            text_index_bytes: indexes.sum(),
            log_bytes: logs.sum(),
            commits: state.seq,
            format_version: crate::manifest::FORMAT_VERSION,
            torn_bytes: self.torn_bytes,
            damage: self.damage.clone(),
        })
    }

    /// Reads every byte and returns what is damaged.
    ///
    /// # Errors
    /// As [`Self::snapshot`], and `Interrupted`.
    pub fn verify(&self, check: Check<'_>) -> Result<Vec<Error>> {
        self.usable()?;
        // A segment being written would change which files there are.
        let _files = match &self.role {
            Role::Writer(writer) => Some(writer.hold_files(check)?),
            Role::Reader(_) => None,
        };
        let mut tries = 0;
        loop {
            let state = self.snapshot()?.state;
            let found =
                crate::verify::verify(self.options.vfs.as_ref(), &self.path, &state, check)?;
            tries += 1;
            // A file that the writer has since moved into another is no damage.
            let is_past = self.snapshot()?.state.manifest.generation != state.manifest.generation;
            if found.is_empty() || !is_past || tries == VERIFY_TRIES {
                return Ok(found);
            }
        }
    }

    /// Makes all commits durable, moves the log into a segment, and releases the store. Closing twice is no
    /// error. When there is no room for the segment, or `check` stops it, the log goes on holding the commits.
    ///
    /// # Errors
    /// When commits could not be made durable, now or earlier behind a batched commit; closing again then says
    /// so again. Opening the store shows what is there and makes that durable.
    pub fn close(&self, check: Check<'_>) -> Result<()> {
        self.release(true, check)
    }

    fn release(&self, tidy: bool, check: Check<'_>) -> Result<()> {
        if self.opened_by != std::process::id() {
            return Ok(());
        }
        self.closed.store(true, Ordering::SeqCst);
        match &self.role {
            Role::Writer(writer) => writer.close(tidy, check),
            Role::Reader(_) => Ok(()),
        }
    }

    pub(crate) fn current(&self) -> Arc<State> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn usable(&self) -> Result<()> {
        if self.opened_by != std::process::id() {
            return Err(Error::Forked {
                path: self.path.clone(),
                opened_by: self.opened_by,
            });
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::Closed {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    fn writer(&self) -> Result<&Writer> {
        self.usable()?;
        match &self.role {
            Role::Writer(writer) => Ok(writer),
            Role::Reader(_) => Err(Error::ReadOnly {
                path: self.path.clone(),
            }),
        }
    }

    fn finish(&self, writer: &Writer, saved: Saved) -> Result<()> {
        writer.make_durable(saved, self.options.durability)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure; what was acknowledged as durable is.
        let _ = self.release(false, &mut || Ok(()));
    }
}

fn share(state: State) -> Shared {
    Arc::new(RwLock::new(Arc::new(state)))
}

fn validate_options(options: &Options) -> Result<()> {
    if let Some(dimension) = options.dimension
        && !(1..=MAX_DIMENSION).contains(&dimension)
    {
        return Err(Error::invalid(
            "dimension",
            format!("1 to {MAX_DIMENSION}"),
            dimension.to_string(),
        ));
    }
    if options.skip_damaged && !options.read_only {
        return Err(Error::invalid(
            "skip_damaged",
            "read_only=True with it",
            "read_only=False",
        ));
    }
    Ok(())
}

/// A store taken over for writing, with its log and whether the manifest is this writer's own.
fn take_over(
    path: &Path,
    options: &Options,
    check: Check<'_>,
) -> Result<(Loaded, Box<dyn VfsLock>, Log, bool)> {
    let vfs = options.vfs.as_ref();
    let lock = lock::acquire(vfs, path, options.lock_timeout, check)?;
    let manifest = crate::manifest::path(path);
    if vfs
        .stamp(&manifest)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        takeover::may_create(vfs, path)?;
        let manifest = Manifest::new(options.dimension, options.model.clone());
        takeover::create(vfs, path, &manifest)?;
    }
    let mut loaded = recovery::load(vfs, path, &[], false)?;
    check_expectations(&loaded.state, options)?;
    let (log, begun) = takeover::begin(vfs, path, &mut loaded, |manifest| {
        manifest.dimension = manifest.dimension.or(options.dimension);
        manifest.model = manifest.model.take().or_else(|| options.model.clone());
    })?;
    loaded.state.dimension = loaded.state.dimension.or(options.dimension);
    takeover::restore_vectors(vfs, path, &loaded.state);
    tombstones::restore(vfs, path, &mut loaded.state)?;
    Ok((loaded, lock, log, begun))
}

/// Refuses a store of another dimension or model.
fn check_expectations(state: &State, options: &Options) -> Result<()> {
    if let (Some(expected), Some(found)) = (state.dimension, options.dimension)
        && expected != found
    {
        return Err(Error::Dimension {
            which: "the dimension asked for".to_owned(),
            expected,
            found,
        });
    }
    if let (Some(stored), Some(given)) = (&state.manifest.model, &options.model)
        && !model::same(stored, given)
    {
        return Err(Error::Model {
            stored: stored.clone(),
            given: given.clone(),
        });
    }
    Ok(())
}

fn validate(memories: &[Memory], expected: Option<usize>) -> Result<()> {
    for memory in memories {
        memory.validate()?;
    }
    validate_dimension(memories, expected)
}

fn validate_dimension(memories: &[Memory], expected: Option<usize>) -> Result<()> {
    let Some(expected) = expected.or_else(|| memories.first().map(|memory| memory.embedding.len()))
    else {
        return Ok(());
    };
    match memories
        .iter()
        .find(|memory| memory.embedding.len() != expected)
    {
        Some(memory) => Err(Error::Dimension {
            which: format!("the embedding of {:?}", memory.id),
            expected,
            found: memory.embedding.len(),
        }),
        None => Ok(()),
    }
}

fn refuse_held(state: &State, memories: &[Memory]) -> Result<()> {
    for memory in memories {
        if state.find(&memory.id)?.is_some() {
            return Err(Error::invalid(
                "memory_id",
                "one that is new",
                format!(
                    "{:?}, which is there: save or upsert replaces it",
                    memory.id
                ),
            ));
        }
    }
    Ok(())
}

/// Those of the ids that the store holds, each once.
fn present(state: &State, ids: &[String]) -> Result<Vec<String>> {
    let unique: HashSet<&String> = ids.iter().collect();
    let mut found = Vec::new();
    for id in unique {
        if state.find(id)?.is_some() {
            found.push(id.clone());
        }
    }
    Ok(found)
}

fn last_of_each(memories: Vec<Memory>) -> Vec<Memory> {
    let last: HashMap<String, usize> = memories
        .iter()
        .enumerate()
        .map(|(index, memory)| (memory.id.clone(), index))
        .collect();
    if last.len() == memories.len() {
        return memories;
    }
    let last: HashSet<usize> = last.into_values().collect();
    let numbered = memories.into_iter().enumerate();
    numbered
        .filter(|(index, _)| last.contains(index))
        .map(|(_, memory)| memory)
        .collect()
}

/// Gives memories the `created_at` of those that they replace.
fn keep_created_at(state: &State, memories: &mut [Memory]) -> Result<()> {
    use crate::state::Place;
    use crate::table::Column;
    let mut rows: Vec<Vec<(usize, usize)>> = vec![Vec::new(); state.segments.len()];
    for (index, memory) in memories.iter_mut().enumerate() {
        match state.find(&memory.id)? {
            Some(Place::Fresh(old)) => memory.created_at = old.created_at,
            Some(Place::Row(segment, row)) => rows[segment].push((row, index)),
            None => {}
        }
    }
    for (live, mut rows) in state.segments.iter().zip(rows) {
        if rows.is_empty() {
            continue;
        }
        rows.sort_unstable();
        let places: Vec<usize> = rows.iter().map(|&(row, _)| row).collect();
        let times = live.segment.table()?.times(Column::CreatedAt, &places)?;
        for ((_, index), time) in rows.into_iter().zip(times) {
            memories[index].created_at = time;
        }
    }
    Ok(())
}
