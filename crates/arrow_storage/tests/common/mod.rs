//! A file system that fails, is killed and loses power, and helpers to fill a store on it.

#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used)]

mod fault_fs;

use arrow_storage::{Durability, Filter, Memory, Options, Store, Vfs, import_parquet};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use fault_fs::{Fault, FaultFs, Survivors};

/// A small generator of numbers; its sequence is fixed by the seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What a store should hold: content by id.
pub type Model = BTreeMap<String, String>;

/// One call that writes.
#[derive(Debug, Clone)]
pub enum Step {
    Save(Vec<(&'static str, &'static str)>),
    /// So large that it goes straight into a segment.
    Bulk(&'static str),
    /// Ids that go and memories that come, in one commit.
    Replace(Vec<&'static str>, Vec<(&'static str, &'static str)>),
    /// The same, where what comes is another store: the first half of it in a segment, the others in its log.
    Absorb(Vec<&'static str>, Vec<(&'static str, &'static str)>),
    Delete(Vec<&'static str>),
    DeleteWhere(&'static str),
    Update(&'static str, &'static str),
    /// A file with memories of a model.
    Import,
    TakeModel(&'static str),
    Flush,
    Compact,
    /// Long work, and calls of another thread between its slices.
    Beside(Box<Step>, Vec<Step>),
    Close,
}

/// Memories of the file that is imported.
const IMPORTED: [(&str, &str); 2] = [("m", "out of a file"), ("n", "out of a file, too")];
pub const MODEL: &str = "a model";

impl Step {
    pub fn change(&self, model: &mut Model) {
        match self {
            Self::Save(pairs) => put(model, pairs),
            Self::Bulk(id) => put(model, &[(*id, bulk_text())]),
            Self::Replace(gone, pairs) | Self::Absorb(gone, pairs) => {
                model.retain(|id, _| !gone.contains(&id.as_str()));
                put(model, pairs);
            }
            Self::Delete(ids) => ids.iter().for_each(|id| {
                model.remove(*id);
            }),
            Self::DeleteWhere(prefix) => model.retain(|id, _| !id.starts_with(prefix)),
            Self::Update(id, text) => {
                if let Some(content) = model.get_mut(*id) {
                    (*text).clone_into(content);
                }
            }
            Self::Import => put(model, &IMPORTED),
            Self::TakeModel(_) | Self::Flush | Self::Compact | Self::Beside(..) | Self::Close => {}
        }
    }

    /// Runs the call; between slices of its work, `between`.
    pub fn run(
        &self,
        store: &Store,
        between: &mut dyn FnMut() -> arrow_storage::Result<()>,
    ) -> arrow_storage::Result<()> {
        match self {
            Self::Save(pairs) => store.save(memories(pairs), false, between),
            Self::Bulk(id) => store.save(memories(&[(id, bulk_text())]), false, between),
            Self::Replace(gone, pairs) => {
                store.replace(&owned(gone), memories(pairs), false, between)
            }
            Self::Absorb(gone, pairs) => {
                let none = &mut || Ok(());
                let other = open(Arc::new(FaultFs::default()), Path::new("/other"))?;
                let (first, others) = pairs.split_at(pairs.len() / 2);
                other.save(memories(first), false, none)?;
                other.flush(none)?;
                other.save(memories(others), false, none)?;
                store.absorb(&other.snapshot()?, &owned(gone), between)
            }
            Self::Delete(ids) => store.delete(&owned(ids), between).map(drop),
            Self::DeleteWhere(prefix) => {
                let filter = Filter::parse(&format!(r#"{{"@id": {{"$prefix": "{prefix}"}}}}"#))?;
                store.delete_where(&filter, false, between).map(drop)
            }
            Self::Update(id, text) => {
                let patch = arrow_storage::Patch {
                    content: Some((*text).to_owned()),
                    embedding: Some(memory(id, text).embedding),
                    ..Default::default()
                };
                store.update(id, patch, between).map(drop)
            }
            Self::Import => import_parquet(table(), store, true, between).map(drop),
            Self::TakeModel(model) => store.take_model(Path::new("a table"), model),
            Self::Flush => store.flush(between),
            Self::Compact => store.compact(between),
            Self::Beside(..) => unreachable!("its parts are run"),
            Self::Close => store.close(between),
        }
    }

    pub fn run_alone(&self, store: &Store) -> arrow_storage::Result<()> {
        self.run(store, &mut || Ok(()))
    }
}

/// What a store may hold: the content after each call, from the last one that is surely durable on.
#[derive(Debug, Clone)]
pub struct Known {
    states: Vec<Model>,
    durable: usize,
    acknowledged: usize,
    durability: Durability,
}

impl Known {
    pub fn of(found: Model, durability: Durability) -> Self {
        Self {
            states: vec![found],
            durable: 0,
            acknowledged: 0,
            durability,
        }
    }

    pub fn allows(&self, found: &Model) -> bool {
        self.states[self.durable..].contains(found)
    }

    /// What is there when every call happened.
    pub fn last(&self) -> Option<&Model> {
        self.states.last()
    }

    /// Runs a call; what it did counts once it says so.
    pub fn run(&mut self, step: &Step, store: &Store) -> arrow_storage::Result<()> {
        let mut next = self.states[self.states.len() - 1].clone();
        step.change(&mut next);
        self.states.push(next);
        let at = self.states.len() - 1;
        let (call, mut beside) = match step {
            Step::Beside(long, steps) => (long.as_ref(), steps.clone()),
            step => (step, Vec::new()),
        };
        call.run(store, &mut || {
            for step in std::mem::take(&mut beside) {
                self.run(&step, store)?;
            }
            Ok(())
        })?;
        self.acknowledged = self.acknowledged.max(at);
        // All of these make durable what came before them.
        let syncs = matches!(
            call,
            Step::Flush | Step::Compact | Step::Close | Step::Bulk(_) | Step::Absorb(..)
        );
        if syncs || self.durability == Durability::Commit {
            self.durable = self.durable.max(at);
        }
        Ok(())
    }

    /// Closes the store. When that is a success, so is everything that was acknowledged.
    pub fn close(&mut self, store: &Store) {
        let closed = store.close(&mut || Ok(()));
        if closed.is_ok() {
            self.durable = self.durable.max(self.acknowledged);
        }
        let again = store.close(&mut || Ok(()));
        assert_eq!(
            closed.is_ok(),
            again.is_ok(),
            "{closed:?}, and then {again:?}"
        );
    }
}

/// A text larger than what a log takes in one commit.
fn bulk_text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| "bulk".repeat(1 << 20))
}

/// A file to import.
fn table() -> &'static Path {
    static TABLE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = TABLE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.parquet");
        let options = Options {
            vfs: Arc::new(FaultFs::default()),
            model: Some(MODEL.to_owned()),
            ..Options::default()
        };
        let store = Store::open(Path::new("/store"), options, &mut || Ok(())).unwrap();
        store
            .save(memories(&IMPORTED), false, &mut || Ok(()))
            .unwrap();
        let snapshot = store.snapshot().unwrap();
        snapshot.export_parquet(&path, &mut || Ok(())).unwrap();
        (folder, path)
    });
    path
}

/// A long text stands there by its length: models are copied for each call.
fn put(model: &mut Model, pairs: &[(&str, &str)]) {
    let short = |text: &str| match text.len() {
        0..=LONGEST => text.to_owned(),
        len => format!("{len} bytes"),
    };
    model.extend(
        pairs
            .iter()
            .map(|(id, text)| ((*id).to_owned(), short(text))),
    );
}

const LONGEST: usize = 1 << 20;

fn memories(pairs: &[(&str, &str)]) -> Vec<Memory> {
    pairs.iter().map(|(id, text)| memory(id, text)).collect()
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

const LONG: &str = "a text that is longer than a sector of the disk ........................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................";

/// Calls that meet every kind of file in every state.
pub fn workload() -> Vec<Step> {
    vec![
        Step::Save(vec![("a", "one")]),
        Step::Save(vec![("b", "two"), ("c", LONG), ("d", "four")]),
        Step::Delete(vec!["a"]),
        Step::Update("b", "two again"),
        Step::Flush,
        Step::Save(vec![("b", "in the log"), ("e", "five")]),
        // From the segment and from the log; an id that comes and goes stays; one that nobody has.
        Step::Replace(
            vec!["b", "e", "nobody"],
            vec![("b", "in place"), ("k", LONG), ("l", "new")],
        ),
        Step::Replace(vec!["k", "l"], vec![]),
        Step::Delete(vec!["c", "d"]),
        Step::Close,
        Step::Save(vec![("f", LONG)]),
        Step::Flush,
        Step::Save(vec![
            ("ga", "1"),
            ("gb", "2"),
            ("gc", "3"),
            ("gd", "4"),
            ("ge", "5"),
        ]),
        Step::Flush,
        Step::DeleteWhere("gb"),
        Step::Flush,
        Step::Save(vec![("h", "eight")]),
        Step::Compact,
        Step::Save(vec![("i", "nine"), ("a", "again")]),
        Step::Close,
        // From a segment and from the log goes and is replaced; what comes is in both too.
        Step::Save(vec![("m", "in the log"), ("n", "there too")]),
        Step::Absorb(
            vec!["h", "m", "a", "nobody"],
            vec![("a", "absorbed"), ("o", LONG), ("f", "other"), ("n", "new")],
        ),
        Step::Delete(vec!["i"]),
        Step::Absorb(vec!["o"], vec![]),
    ]
}

/// Calls that meet a log being moved: what is in it, in what it goes into, and new.
pub fn moving_workload() -> Vec<Step> {
    let beside = |long: Step, steps: Vec<Step>| Step::Beside(Box::new(long), steps);
    vec![
        Step::Save(vec![("a", "one"), ("b", "two"), ("c", LONG)]),
        Step::Flush,
        Step::Save(vec![("d", "four"), ("e", LONG), ("f", "six")]),
        beside(
            Step::Flush,
            vec![
                Step::Delete(vec!["d", "a"]),
                Step::Save(vec![("e", "again"), ("g", "new")]),
            ],
        ),
        Step::Update("f", "out of a segment"),
        beside(
            Step::Compact,
            vec![
                Step::Save(vec![("d", "back"), ("b", LONG)]),
                Step::DeleteWhere("g"),
            ],
        ),
        // Nothing is in the log when it begins.
        Step::Flush,
        Step::Delete(vec!["c"]),
        beside(Step::Flush, vec![Step::Save(vec![("h", LONG)])]),
        Step::Close,
        Step::Delete(vec!["h"]),
    ]
}

/// Calls that replace the manifest in other ways.
pub fn other_workload() -> Vec<Step> {
    vec![
        Step::TakeModel(MODEL),
        Step::Import,
        Step::Save(vec![("a", "one")]),
        Step::Bulk("bulk"),
        Step::Update("a", "two"),
        Step::Close,
        Step::Delete(vec!["bulk"]),
        Step::Import,
        Step::Close,
    ]
}

pub fn memory(id: &str, content: &str) -> Memory {
    let seed = id.bytes().map(f32::from).sum::<f32>();
    let embedding = vec![seed, content.len() as f32, 1.0];
    Memory::new(
        id.to_owned(),
        content.to_owned(),
        format!(r#"{{"id":"{id}"}}"#),
        embedding,
    )
}

pub fn open(vfs: Arc<dyn Vfs>, path: &Path) -> arrow_storage::Result<Store> {
    open_as(vfs, path, Durability::Commit)
}

pub fn open_as(
    vfs: Arc<dyn Vfs>,
    path: &Path,
    durability: Durability,
) -> arrow_storage::Result<Store> {
    let options = Options {
        vfs,
        durability,
        ..Options::default()
    };
    Store::open(path, options, &mut || Ok(()))
}

/// Reads everything, and checks that each memory is whole.
pub fn content(store: &Store) -> arrow_storage::Result<Model> {
    let snapshot = store.snapshot()?;
    let mut scan = snapshot.scan(None)?;
    let mut model = Model::new();
    loop {
        let batch = scan.next_batch(3)?;
        if batch.is_empty() {
            assert!(snapshot.count() >= model.len());
            return Ok(model);
        }
        for read in batch {
            let whole = memory(&read.id, &read.content);
            assert_eq!(
                (&read.metadata, &read.embedding),
                (&whole.metadata, &whole.embedding),
                "{}",
                read.id
            );
            put(&mut model, &[(&read.id, &read.content)]);
        }
    }
}
