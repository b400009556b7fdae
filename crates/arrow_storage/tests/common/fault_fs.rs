//! A file system in memory whose calls fail, whose processes are killed, and that loses power, in any order.
//!
//! As Linux does, a sync that fails gives up on what it was to write: the system goes on showing it, and the
//! next sync is a success without it. Names behave the same: they are the content of their folder.

use super::Dice;
use arrow_storage::{Stamp, Vfs, VfsFile, VfsLock};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;

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
    /// Pages that a failed sync gave up on: they are shown, and no later sync writes them.
    given_up: BTreeSet<usize>,
}

/// A change to the names in a folder that no sync has covered. Names map to inodes.
#[derive(Debug, Clone)]
enum Naming {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Unlink(PathBuf),
    Folder(PathBuf),
}

#[derive(Debug, Default, Clone)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Debug, Default, Clone)]
struct Tree {
    inodes: Vec<Inode>,
    names: Names,
    durable_names: Names,
    pending_names: Vec<Naming>,
    operations: usize,
    clock: i128,
    faults: Vec<Fault>,
}

/// When and how the file system fails.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// From this operation on, nothing works: the process was killed, or the power is gone.
    Dead(usize),
    /// This one operation fails. Half of a write has happened by then, and a sync has given up on all.
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

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => data.resize(*len as usize, 0),
            Self::Write(offset, bytes) => write(data, *offset, bytes),
        }
    }
}

fn write(data: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    data[offset as usize..end].copy_from_slice(bytes);
}

/// Keeps some sectors of a write.
fn tear(data: &mut Vec<u8>, offset: u64, bytes: &[u8], dice: &mut Dice) {
    let mut start = 0;
    while start < bytes.len() {
        let sector_end = (offset as usize + start) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
        let end = (sector_end - offset as usize).min(bytes.len());
        if dice.below(2) == 0 {
            write(data, offset + start as u64, &bytes[start..end]);
        }
        start = end;
    }
}

fn pages(offset: u64, len: usize) -> std::ops::Range<usize> {
    offset as usize / PAGE_BYTES..(offset as usize + len).div_ceil(PAGE_BYTES)
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        match &change {
            // A page that is written to is dirty again, all of it.
            Change::Write(offset, bytes) => {
                let written = pages(*offset, bytes.len());
                self.given_up.retain(|page| !written.contains(page));
            }
            Change::SetLen(len) => {
                let kept = (*len as usize).div_ceil(PAGE_BYTES);
                self.given_up.retain(|page| *page < kept);
            }
        }
        self.pending.push(change);
    }

    fn sync(&mut self) {
        let before = std::mem::replace(&mut self.durable, self.now.clone());
        for page in &self.given_up {
            let end = ((page + 1) * PAGE_BYTES).min(self.durable.len());
            for at in page * PAGE_BYTES..end {
                self.durable[at] = before.get(at).copied().unwrap_or(0);
            }
        }
        self.pending.clear();
    }

    /// A sync that fails. Some of it may have been written: the changes stay pending for a loss of power.
    fn give_up(&mut self) {
        for change in &self.pending {
            if let Change::Write(offset, bytes) = change {
                self.given_up.extend(pages(*offset, bytes.len()));
            }
        }
    }

    fn lose_power(&mut self, survivors: Survivors, dice: &mut Dice) {
        for change in std::mem::take(&mut self.pending) {
            match (survivors, &change) {
                (Survivors::Nothing, _) => {}
                (Survivors::Everything, _) => change.apply(&mut self.durable),
                (Survivors::Some(_), Change::Write(offset, bytes)) => {
                    tear(&mut self.durable, *offset, bytes, dice);
                }
                (Survivors::Some(_), Change::SetLen(_)) => {
                    if dice.below(2) == 0 {
                        change.apply(&mut self.durable);
                    }
                }
            }
        }
        self.now = self.durable.clone();
        self.given_up.clear();
    }
}

impl Naming {
    /// The folder whose content changes.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _)
            | Self::Rename(path, ..)
            | Self::Unlink(path)
            | Self::Folder(path) => path.parent(),
        }
    }
}

impl Names {
    fn apply(&mut self, change: &Naming) {
        match change {
            Naming::Link(path, inode) => {
                self.files.insert(path.clone(), *inode);
            }
            Naming::Rename(from, to, inode) => {
                self.files.remove(from);
                self.files.insert(to.clone(), *inode);
            }
            Naming::Unlink(path) => {
                self.files.remove(path);
            }
            Naming::Folder(path) => {
                self.folders.insert(path.clone());
            }
        }
    }

    fn has_folder(&self, dir: &Path) -> bool {
        dir.parent().is_none() || self.folders.contains(dir)
    }
}

impl Tree {
    /// Counts an operation and fails it if it is its turn.
    fn step(&mut self) -> io::Result<()> {
        let now = self.operations;
        self.operations += 1;
        for fault in &self.faults {
            match *fault {
                Fault::Dead(from) if now >= from => return Err(io::Error::other("it is dead")),
                Fault::Once(at, kind) if now == at => return Err(kind.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the process lives on behind what just failed.
    fn lives(&self) -> bool {
        let dead = |fault: &Fault| matches!(*fault, Fault::Dead(from) if self.operations > from);
        !self.faults.iter().any(dead)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.names.files.get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&mut self, change: Naming) {
        self.names.apply(&change);
        self.pending_names.push(change);
    }

    /// The inode of a name, a new one when there is none.
    fn link(&mut self, path: &Path) -> io::Result<usize> {
        if let Some(inode) = self.names.files.get(path) {
            return Ok(*inode);
        }
        if !path.parent().is_some_and(|dir| self.names.has_folder(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.rename(Naming::Link(path.to_owned(), inode));
        Ok(inode)
    }
}

impl FaultFs {
    pub fn with(faults: &[Fault]) -> Self {
        let fs = Self::default();
        fs.set_faults(faults);
        fs
    }

    /// Sets faults of the operations to come, counted from now.
    pub fn set_faults(&self, faults: &[Fault]) {
        let mut tree = self.tree();
        tree.operations = 0;
        tree.faults = faults.to_vec();
    }

    pub fn operations(&self) -> usize {
        self.tree().operations
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap()
    }

    /// The same files as the next process sees them, with faults of its own.
    pub fn next_process(&self, faults: &[Fault]) -> Self {
        let next = Self(Arc::new(Mutex::new(self.tree().clone())));
        next.set_faults(faults);
        next
    }

    /// Flips a bit on the disk.
    pub fn flip(&self, path: &Path, at: usize) {
        self.damage(path, |bytes| bytes[at] ^= 1);
    }

    /// Changes a file on the disk behind everybody's back.
    pub fn damage(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut tree = self.tree();
        let inode = tree.find(path).unwrap();
        change(&mut tree.inodes[inode].now);
        change(&mut tree.inodes[inode].durable);
    }

    /// What the disk holds after the power comes back.
    pub fn after_power_loss(&self, survivors: Survivors) -> Self {
        let mut tree = self.tree().clone();
        let mut dice = Dice::new(match survivors {
            Survivors::Some(seed) => seed,
            _ => 0,
        });
        for inode in &mut tree.inodes {
            inode.lose_power(survivors, &mut dice);
        }
        for change in std::mem::take(&mut tree.pending_names) {
            let survives = match survivors {
                Survivors::Nothing => false,
                Survivors::Everything => true,
                Survivors::Some(_) => dice.below(2) == 0,
            };
            if survives {
                tree.durable_names.apply(&change);
            }
        }
        // What is in a folder that is gone is gone.
        let names = &mut tree.durable_names;
        let known = names.folders.clone();
        let reachable = |path: &Path| {
            let mut above = path.ancestors().skip(1);
            above.all(|dir| dir.parent().is_none() || known.contains(dir))
        };
        names.folders.retain(|dir| reachable(dir));
        names.files.retain(|path, _| reachable(path));
        tree.names = tree.durable_names.clone();
        tree.faults.clear();
        tree.operations = 0;
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
            (Err(_), Change::Write(offset, bytes)) if tree.lives() => {
                Change::Write(offset, bytes[..bytes.len() / 2].to_vec())
            }
            _ => return failed,
        };
        tree.inodes[self.inode].change(change);
        tree.clock += 1;
        failed
    }
}

impl VfsFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut tree = self.fs.tree();
        tree.step()?;
        let now = &tree.inodes[self.inode].now;
        let rest = now.get(offset as usize..).unwrap_or_default();
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
        let stepped = tree.step();
        let lives = tree.lives();
        let inode = &mut tree.inodes[self.inode];
        match &stepped {
            Ok(()) => inode.sync(),
            Err(_) if lives => inode.give_up(),
            Err(_) => {}
        }
        stepped
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
        if tree.names.files.contains_key(path) {
            tree.rename(Naming::Unlink(path.to_owned()));
        }
        let inode = tree.link(path)?;
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
        let inode = tree.find(from)?;
        tree.rename(Naming::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        tree.step()?;
        tree.find(path)?;
        tree.rename(Naming::Unlink(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut tree = self.tree();
        tree.step()?;
        let files = tree.names.files.keys();
        let below = files.filter(|path| path.parent() == Some(dir));
        Ok(below
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        tree.step()?;
        let missing = dir.ancestors().filter(|dir| !tree.names.has_folder(dir));
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        for dir in missing.into_iter().rev() {
            tree.rename(Naming::Folder(dir));
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let stepped = tree.step();
        if stepped.is_err() && !tree.lives() {
            return stepped;
        }
        if !tree.names.has_folder(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for change in std::mem::take(&mut tree.pending_names) {
            if change.folder() != Some(dir) {
                tree.pending_names.push(change);
            } else if stepped.is_ok() {
                tree.durable_names.apply(&change);
            } else if matches!(change, Naming::Folder(_)) {
                // No process can make anew a folder that it is in; so this one stays to be synced.
                tree.pending_names.push(change);
            }
        }
        stepped
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn VfsLock>>> {
        let mut tree = self.tree();
        tree.step()?;
        tree.link(path)?;
        Ok(Some(Box::new(NoLock)))
    }
}
