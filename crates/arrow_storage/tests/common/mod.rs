//! A file system in memory that loses power, and helpers to fill a store.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use arrow_storage::{Disk, Filter, Memory, Options, Stamp, Store, Vfs, VfsFile, VfsLock};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const SECTOR_BYTES: usize = 512;

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

/// A change to a file that no sync has covered.
#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// A change to the names that no sync has covered. Names map to inodes.
#[derive(Debug, Clone)]
enum Naming {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

#[derive(Debug, Default, Clone)]
struct Tree {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<Naming>,
    operations: usize,
    clock: i128,
    fault: Option<Fault>,
}

/// When and how the file system fails.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// From this operation on, nothing works: the power is gone.
    PowerLoss(usize),
    /// This one operation fails. Half of a write has happened by then.
    Once(usize, io::ErrorKind),
}

/// What survives a loss of power of the changes no sync covered.
#[derive(Debug, Clone, Copy)]
pub enum Survivors {
    Nothing,
    Everything,
    /// Any sectors of any writes, and any changes of names, as this seed has it.
    Some(u64),
}

#[derive(Debug, Clone, Default)]
pub struct FaultFs(Arc<Mutex<Tree>>);

fn apply(data: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLen(len) => data.resize(*len as usize, 0),
        Change::Write(offset, bytes) => {
            let end = *offset as usize + bytes.len();
            if data.len() < end {
                data.resize(end, 0);
            }
            data[*offset as usize..end].copy_from_slice(bytes);
        }
    }
}

/// Keeps some sectors of a write.
fn tear(data: &mut Vec<u8>, offset: u64, bytes: &[u8], dice: &mut Dice) {
    let mut start = 0;
    while start < bytes.len() {
        let sector_end = (offset as usize + start) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
        let end = (sector_end - offset as usize).min(bytes.len());
        if dice.below(2) == 0 {
            apply(
                data,
                &Change::Write(offset + start as u64, bytes[start..end].to_vec()),
            );
        }
        start = end;
    }
}

fn rename(names: &mut BTreeMap<PathBuf, usize>, change: &Naming) {
    match change {
        Naming::Link(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Naming::Unlink(path) => {
            names.remove(path);
        }
    }
}

impl Tree {
    /// Counts an operation and fails it if it is its turn.
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fault {
            Some(Fault::PowerLoss(from)) if self.operations > from => {
                Err(io::Error::other("the power is gone"))
            }
            Some(Fault::Once(at, kind)) if self.operations == at + 1 => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl FaultFs {
    pub fn with(fault: Option<Fault>) -> Self {
        let fs = Self::default();
        fs.tree().fault = fault;
        fs
    }

    pub fn operations(&self) -> usize {
        self.tree().operations
    }

    fn tree(&self) -> std::sync::MutexGuard<'_, Tree> {
        self.0.lock().unwrap()
    }

    /// The same files without faults, as a process that starts now sees them.
    pub fn healed(&self) -> Self {
        let mut tree = self.tree().clone();
        tree.fault = None;
        Self(Arc::new(Mutex::new(tree)))
    }

    /// What the disk holds after the power comes back.
    pub fn after_power_loss(&self, survivors: Survivors) -> Self {
        let mut tree = self.tree().clone();
        let mut dice = Dice::new(match survivors {
            Survivors::Some(seed) => seed,
            _ => 0,
        });
        for inode in &mut tree.inodes {
            for change in std::mem::take(&mut inode.pending) {
                match (survivors, &change) {
                    (Survivors::Nothing, _) => {}
                    (Survivors::Everything, _) => apply(&mut inode.durable, &change),
                    (Survivors::Some(_), Change::Write(offset, bytes)) => {
                        tear(&mut inode.durable, *offset, bytes, &mut dice);
                    }
                    (Survivors::Some(_), Change::SetLen(_)) => {
                        if dice.below(2) == 0 {
                            apply(&mut inode.durable, &change);
                        }
                    }
                }
            }
            inode.now = inode.durable.clone();
        }
        for change in std::mem::take(&mut tree.pending_names) {
            let survives = match survivors {
                Survivors::Nothing => false,
                Survivors::Everything => true,
                Survivors::Some(_) => dice.below(2) == 0,
            };
            if survives {
                rename(&mut tree.durable_names, &change);
            }
        }
        tree.names = tree.durable_names.clone();
        tree.fault = None;
        Self(Arc::new(Mutex::new(tree)))
    }
}

#[derive(Debug)]
struct FaultFile {
    fs: FaultFs,
    inode: usize,
}

impl FaultFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut tree = self.fs.tree();
        let failed = tree.step();
        let change = match (&failed, change) {
            (Ok(()), change) => change,
            (Err(_), Change::Write(offset, bytes))
                if matches!(tree.fault, Some(Fault::Once(..))) =>
            {
                Change::Write(offset, bytes[..bytes.len() / 2].to_vec())
            }
            _ => return failed,
        };
        let inode = &mut tree.inodes[self.inode];
        apply(&mut inode.now, &change);
        inode.pending.push(change);
        tree.clock += 1;
        failed
    }
}

impl VfsFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut tree = self.fs.tree();
        tree.step()?;
        let rest = tree.inodes[self.inode]
            .now
            .get(offset as usize..)
            .unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.fs.tree().inodes[self.inode].now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut tree = self.fs.tree();
        tree.step()?;
        let inode = &mut tree.inodes[self.inode];
        inode.durable = inode.now.clone();
        inode.pending.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct NoLock;

impl VfsLock for NoLock {
    fn describe(&self, _holder: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Vfs for FaultFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut tree = self.tree();
        tree.step()?;
        let inode = if let Some(inode) = tree.names.get(path).copied() {
            tree.inodes[inode].now.clear();
            tree.inodes[inode].pending.push(Change::SetLen(0));
            inode
        } else {
            let inode = tree.inodes.len();
            tree.inodes.push(Inode::default());
            tree.names.insert(path.to_owned(), inode);
            tree.pending_names
                .push(Naming::Link(path.to_owned(), inode));
            inode
        };
        Ok(Box::new(FaultFile {
            fs: self.clone(),
            inode,
        }))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Box<dyn VfsFile>> {
        let mut tree = self.tree();
        tree.step()?;
        let inode = tree.find(path)?;
        Ok(Box::new(FaultFile {
            fs: self.clone(),
            inode,
        }))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let mut tree = self.tree();
        tree.step()?;
        let inode = tree.find(path)?;
        Ok(Bytes::from(tree.inodes[inode].now.clone()))
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let mut tree = self.tree();
        tree.step()?;
        let inode = tree.find(path)?;
        Ok(Stamp {
            inode: inode as u64,
            modified_ns: tree.clock,
            len: tree.inodes[inode].now.len() as u64,
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        tree.step()?;
        tree.find(from)?;
        let change = Naming::Rename(from.to_owned(), to.to_owned());
        rename(&mut tree.names, &change);
        tree.pending_names.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        tree.step()?;
        tree.find(path)?;
        let change = Naming::Unlink(path.to_owned());
        rename(&mut tree.names, &change);
        tree.pending_names.push(change);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut tree = self.tree();
        tree.step()?;
        let below = tree.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(below
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.tree().step()
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        tree.step()?;
        tree.durable_names = tree.names.clone();
        tree.pending_names.clear();
        Ok(())
    }

    fn try_lock(&self, _path: &Path) -> io::Result<Option<Box<dyn VfsLock>>> {
        self.tree().step()?;
        Ok(Some(Box::new(NoLock)))
    }
}

/// What a store should hold: content by id.
pub type Model = BTreeMap<String, String>;

/// One call that writes.
#[derive(Debug, Clone)]
pub enum Step {
    Save(Vec<(&'static str, &'static str)>),
    /// Ids that go and memories that come, in one commit.
    Replace(Vec<&'static str>, Vec<(&'static str, &'static str)>),
    /// The same, where what comes is another store: the first half of it in a segment, the others in its log.
    Absorb(Vec<&'static str>, Vec<(&'static str, &'static str)>),
    Delete(Vec<&'static str>),
    DeleteWhere(&'static str),
    Update(&'static str, &'static str),
    Flush,
    Compact,
    Reopen,
}

impl Step {
    pub fn change(&self, model: &mut Model) {
        match self {
            Self::Save(pairs) => put(model, pairs),
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
            Self::Flush | Self::Compact | Self::Reopen => {}
        }
    }

    /// Runs the step on a store of the file system `fs`.
    pub fn run_on(&self, store: &Store, fs: &FaultFs) -> arrow_storage::Result<()> {
        let Self::Absorb(gone, pairs) = self else {
            return self.run(store);
        };
        let check = &mut || Ok(());
        // As one does that an earlier failure left.
        let dir = Path::new("/store/staging");
        let failed = |source| arrow_storage::Error::Io {
            action: "clear",
            path: dir.to_owned(),
            source,
        };
        for name in fs.list(dir).map_err(failed)? {
            fs.remove(&dir.join(name)).map_err(failed)?;
        }
        let other = open(Arc::new(fs.clone()), dir)?;
        let (first, others) = pairs.split_at(pairs.len() / 2);
        other.save(memories(first), false, check)?;
        other.flush(check)?;
        other.save(memories(others), false, check)?;
        store.absorb(&other.snapshot()?, &owned(gone), check)
    }

    pub fn run(&self, store: &Store) -> arrow_storage::Result<()> {
        let check = &mut || Ok(());
        match self {
            Self::Save(pairs) => store.save(memories(pairs), false, check),
            Self::Replace(gone, pairs) => {
                store.replace(&owned(gone), memories(pairs), false, check)
            }
            Self::Absorb(..) => panic!("`run_on` knows where the other store is"),
            Self::Delete(ids) => store.delete(&owned(ids), check).map(drop),
            Self::DeleteWhere(prefix) => {
                let filter = Filter::parse(&format!(r#"{{"@id": {{"$prefix": "{prefix}"}}}}"#))?;
                store.delete_where(&filter, false, check).map(drop)
            }
            Self::Update(id, text) => {
                let patch = arrow_storage::Patch {
                    content: Some((*text).to_owned()),
                    embedding: Some(memory(id, text).embedding),
                    ..Default::default()
                };
                store.update(id, patch, check).map(drop)
            }
            Self::Flush => store.flush(check),
            Self::Compact => store.compact(check),
            Self::Reopen => store.close(check),
        }
    }
}

fn put(model: &mut Model, pairs: &[(&str, &str)]) {
    let owned = |&(id, text): &(&str, &str)| (id.to_owned(), text.to_owned());
    model.extend(pairs.iter().map(owned));
}

fn memories(pairs: &[(&str, &str)]) -> Vec<Memory> {
    pairs.iter().map(|(id, text)| memory(id, text)).collect()
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// Calls that meet every kind of file in every state.
pub fn workload() -> Vec<Step> {
    const LONG: &str = "a text that is longer than a sector of the disk ........................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................................";
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
        Step::Reopen,
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
        Step::Reopen,
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
    let options = Options {
        vfs,
        ..Options::default()
    };
    Store::open(path, options, &mut || Ok(()))
}

pub fn open_on_disk(
    path: &Path,
    read_only: bool,
    skip_damaged: bool,
) -> arrow_storage::Result<Store> {
    let options = Options {
        vfs: Arc::new(Disk),
        read_only,
        skip_damaged,
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
            model.insert(read.id.clone(), read.content.clone());
        }
    }
}
