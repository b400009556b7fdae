//! The folder of a store that is being written, held by a handle.
//!
//! Names are looked up in the folder that was opened, wherever it is moved, and nothing is created,
//! renamed or removed once it is not where it was or its LOCK is another: somebody else may be writing then.

use crate::disk_lock;
use crate::vfs::{Disk, Stamp, Vfs, VfsFile, VfsLock, disk_file, map_file};
use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What tells a file or folder from every other of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// An opened folder.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: File,
    path: PathBuf,
    identity: Identity,
    /// The LOCK that was taken, its name and which file it is.
    lock: OnceLock<(PathBuf, Identity)>,
}

impl Folder {
    /// Opens the folder `path`, which is absolute.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let handle = File::open(path)?;
        let identity = Identity::of(&handle.metadata()?);
        Ok(Self {
            handle,
            path: path.to_owned(),
            identity,
            lock: OnceLock::new(),
        })
    }

    /// The name of a file in the folder; none for other paths.
    fn name<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.path)
            .ok()
            .filter(|name| name.components().count() == 1)
    }

    fn open_file(&self, name: &Path, flags: OFlags) -> Result<File, Errno> {
        let mode = Mode::from_raw_mode(0o666);
        let open = || rustix::fs::openat(&self.handle, name, flags | OFlags::CLOEXEC, mode);
        retry_on_intr(open).map(|file: OwnedFd| file.into())
    }

    fn identity_of(&self, name: &Path) -> io::Result<Identity> {
        let found = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Identity {
            device: found.st_dev,
            inode: found.st_ino,
        })
    }
}

fn is_gone(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    kinds.contains(&error.kind())
}

fn displaced(what: &str) -> io::Error {
    io::Error::other(format!(
        "{what} since the store was opened, so another writer may be at it; nothing was changed there: close \
         the store and open it again"
    ))
}

impl Vfs for Folder {
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let Some(name) = self.name(path) else {
            return Disk.create(path);
        };
        self.in_place()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        // Always a new file: one of this name may be open elsewhere.
        let file = match self.open_file(name, flags) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?;
                self.open_file(name, flags)?
            }
            other => other?,
        };
        Ok(disk_file(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn VfsFile>> {
        let Some(name) = self.name(path) else {
            return Disk.open(path, write);
        };
        let flags = if write { OFlags::RDWR } else { OFlags::RDONLY };
        Ok(disk_file(self.open_file(name, flags)?))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        match self.name(path) {
            Some(name) => map_file(&self.open_file(name, OFlags::RDONLY)?),
            None => Disk.map(path),
        }
    }

    fn maps(&self) -> bool {
        true
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let Some(name) = self.name(path) else {
            return Disk.stamp(path);
        };
        let found = rustix::fs::statat(&self.handle, name, AtFlags::empty())?;
        Ok(Stamp {
            inode: found.st_ino,
            modified_ns: i128::from(found.st_mtime) * 1_000_000_000
                + i128::from(found.st_mtime_nsec),
            len: found.st_size as u64,
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (Some(from), Some(to)) = (self.name(from), self.name(to)) else {
            return Disk.rename(from, to);
        };
        self.in_place()?;
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let Some(name) = self.name(path) else {
            return Disk.remove(path);
        };
        self.in_place()?;
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if dir != self.path {
            return Disk.list(dir);
        }
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle)? {
            let name = entry?.file_name().to_owned().into_string();
            names.extend(name.ok().filter(|name| name != "." && name != ".."));
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if dir == self.path {
            self.handle.sync_all()
        } else {
            Disk.sync_dir(dir)
        }
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn VfsLock>>> {
        let Some(name) = self.name(path) else {
            return Disk.try_lock(path);
        };
        loop {
            let open = || Ok(self.open_file(name, OFlags::RDWR | OFlags::CREATE)?);
            let Some(lock) = disk_lock::try_lock(open)? else {
                return Ok(None);
            };
            let taken = Identity::of(&lock.metadata()?);
            // Between opening and locking, the name may have gone to another file.
            if self.identity_of(name).ok() == Some(taken) {
                let _ = self.lock.set((name.to_owned(), taken));
                return Ok(Some(Box::new(lock)));
            }
        }
    }

    fn in_place(&self) -> io::Result<()> {
        let Some((name, taken)) = self.lock.get() else {
            return Ok(());
        };
        match std::fs::metadata(&self.path) {
            Ok(found) if Identity::of(&found) == self.identity => {}
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {
                return Err(displaced("its folder was moved, removed or made again"));
            }
        }
        match self.identity_of(name) {
            Ok(found) if found == *taken => Ok(()),
            Err(error) if !is_gone(&error) => Err(error),
            _ => Err(displaced("its LOCK was removed or replaced")),
        }
    }

    fn lock_in_place(&self) -> io::Result<()> {
        let Some((name, taken)) = self.lock.get() else {
            return Ok(());
        };
        match std::fs::metadata(self.path.join(name)) {
            Ok(found) if Identity::of(&found) == *taken => Ok(()),
            // Which of the two it is.
            _ => self.in_place(),
        }
    }
}
