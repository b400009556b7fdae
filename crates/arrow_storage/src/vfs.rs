//! The file operations a store is made of, behind traits so that tests can make them fail.

use crate::disk_lock;
use crate::folder::Folder;
use bytes::Bytes;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// What tells one version of a file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the file's node.
    pub inode: u64,
    /// Nanoseconds since the epoch.
    pub modified_ns: i128,
    /// Length in bytes.
    pub len: u64,
}

/// A lock, held until it is dropped or its process dies.
pub trait VfsLock: Debug + Send + Sync {
    /// Replaces the text that tells others who holds the lock.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn describe(&self, holder: &str) -> io::Result<()>;
}

/// An open file.
pub trait VfsFile: Debug + Send + Sync {
    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// The system's; part of the data may have been written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// The system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends the file.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns once content and length are durable.
    ///
    /// # Errors
    /// The system's; after one, nothing is known about what is durable.
    fn sync(&self) -> io::Result<()>;
}

/// A file system.
pub trait Vfs: Debug + Send + Sync {
    /// Creates a file for reading and writing, emptying what is there.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Opens a file.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn VfsFile>>;
    /// Maps a file that will not change.
    ///
    /// # Errors
    /// The system's.
    fn map(&self, path: &Path) -> io::Result<Bytes>;
    /// Whether what `map` returns is a mapping, whose pages the system can take back.
    fn maps(&self) -> bool {
        false
    }
    /// Describes a file.
    ///
    /// # Errors
    /// The system's.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;
    /// Renames, replacing the target.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, those that are not UTF-8 left out.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// The system's.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Returns once the names in a folder are durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes a lock without waiting; `None` while another holds it.
    ///
    /// # Errors
    /// The system's.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn VfsLock>>>;
    /// The same files, with the folder `dir` held: whatever takes its place is not taken for it. `None`
    /// where folders stay in place.
    ///
    /// # Errors
    /// The system's.
    fn enter(&self, _dir: &Path) -> io::Result<Option<Arc<dyn Vfs>>> {
        Ok(None)
    }
    /// Succeeds while the folder that was entered is where it was, and the lock in it the one that was taken.
    ///
    /// # Errors
    /// What happened to them, or the system's.
    fn in_place(&self) -> io::Result<()> {
        Ok(())
    }

    /// As `in_place`, with one look for the lock where the folder was: enough for a commit to the log that is open, which
    /// nobody else writes while the lock is the one that was taken.
    ///
    /// # Errors
    /// As `in_place`.
    fn lock_in_place(&self) -> io::Result<()> {
        self.in_place()
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, false)?;
        let mut data = vec![0; file.len()? as usize];
        let len = file.read_at(&mut data, 0)?;
        data.truncate(len);
        Ok(data)
    }
}

/// The disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

#[derive(Debug)]
struct DiskFile(File);

impl VfsFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .0
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A file of the disk that was opened elsewhere.
pub(crate) fn disk_file(file: File) -> Box<dyn VfsFile> {
    Box::new(DiskFile(file))
}

/// Maps a file that will not change.
pub(crate) fn map_file(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the store writes a file before its manifest names it and never changes it after, so
    // the mapping stays valid; removing the file keeps the mapped pages.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// Gives the memory of a mapping back to the system; its pages are read again when they are needed.
///
/// `mapped` is what [`map_file`] returned, or the beginning of it.
pub(crate) fn give_back(mapped: &Bytes) {
    #[cfg(target_os = "linux")]
    // SAFETY: the pages are of a read-only mapping of a file that does not change, so that whoever reads them
    // next finds the same bytes there.
    unsafe {
        libc::madvise(
            mapped.as_ptr().cast_mut().cast(),
            mapped.len(),
            libc::MADV_DONTNEED,
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = mapped;
}

impl Vfs for Disk {
    fn maps(&self) -> bool {
        true
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(DiskFile(
            OpenOptions::new().read(true).write(write).open(path)?,
        )))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        map_file(&File::open(path)?)
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let metadata = fs::metadata(path)?;
        Ok(Stamp {
            inode: metadata.ino(),
            modified_ns: i128::from(metadata.mtime()) * 1_000_000_000
                + i128::from(metadata.mtime_nsec()),
            len: metadata.len(),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn VfsLock>>> {
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path)
        };
        let lock = disk_lock::try_lock(open)?;
        Ok(lock.map(|lock| Box::new(lock) as Box<dyn VfsLock>))
    }

    fn enter(&self, dir: &Path) -> io::Result<Option<Arc<dyn Vfs>>> {
        Ok(Some(Arc::new(Folder::open(dir)?)))
    }
}
