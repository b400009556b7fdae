//! A file that appears under its name whole or not at all.
//!
//! It is written under a name of its own in the same folder, synced and renamed; then the folder is synced.
//! A rename replaces whatever bears the target's name, devices and pipes too, so only a regular file
//! or nothing at all is accepted there. A link is followed: the file it leads to is replaced, not the link.
//!
//! A draft is locked by the process that makes it, and the lock ends with that process. So a draft that can be
//! locked is nobody's, and whoever makes the next one in the same folder removes it.

#[cfg(unix)]
use std::fs::TryLockError;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file being written. Dropped before [`AtomicFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    /// `None` once the draft bears its final name.
    draft: Option<PathBuf>,
    target: PathBuf,
    file: File,
}

impl AtomicFile {
    /// Starts a file that will replace `path`.
    ///
    /// # Errors
    /// `InvalidInput` when `path` is neither a regular file nor free; those of the system. They speak of
    /// `path`, never of the draft.
    pub fn create(path: &Path) -> io::Result<Self> {
        let target = destination(path)?;
        let (draft, file) = new_draft(folder_of(&target))?;
        let atomic = Self {
            draft: Some(draft),
            target,
            file,
        };
        if let Ok(old) = fs::metadata(&atomic.target) {
            atomic.file.set_permissions(old.permissions())?;
        }
        Ok(atomic)
    }

    /// What to write to.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes the content durable, then the name.
    ///
    /// # Errors
    /// `InvalidInput` when the target has become something else since; those of the system. When only the
    /// last sync fails, of the folder, the file is there all the same.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let target = destination(&self.target)?;
        if let Some(draft) = &self.draft {
            fs::rename(draft, &target)?;
            self.draft = None;
        }
        sync_folder(folder_of(&target))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            // Nobody is left to hear of a failure, and the target is as it was.
            let _ = fs::remove_file(draft);
        }
    }
}

/// Where a path leads, when a file may be put there.
fn destination(path: &Path) -> io::Result<PathBuf> {
    let target = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.to_owned()),
        Err(error) => return Err(error),
        Ok(found) if found.is_symlink() => fs::canonicalize(path)?,
        Ok(_) => path.to_owned(),
    };
    let kind = fs::metadata(&target)?.file_type();
    if kind.is_file() {
        return Ok(target);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "expected a regular file or a free name, got {}; give another name",
            kind_name(kind)
        ),
    ))
}

fn kind_name(kind: fs::FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() {
        return "a folder";
    }
    "something else"
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Makes a file under a name that nothing has, and locks it.
fn new_draft(folder: &Path) -> io::Result<(PathBuf, File)> {
    clear_drafts(folder);
    loop {
        let random = RandomState::new().build_hasher().finish();
        let draft = folder.join(format!(".aios-{random:016x}.draft"));
        match OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&draft)
        {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            // Another process may find it before it is locked, and think it nobody's.
            Ok(file) if hold(&file, &draft, true) => return Ok((draft, file)),
            Ok(_) => {}
        }
    }
}

/// Removes the draft files that processes that are gone left in a folder; what cannot be removed stays.
fn clear_drafts(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let is_draft = entry.file_name().to_str().is_some_and(is_draft_name)
            && entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_draft {
            continue;
        }
        let path = entry.path();
        if let Ok(file) = OpenOptions::new().read(true).write(true).open(&path)
            && hold(&file, &path, false)
        {
            // Nobody asked for it, so nobody is told that it stays.
            let _ = fs::remove_file(&path);
        }
    }
}

fn is_draft_name(name: &str) -> bool {
    name.strip_prefix(".aios-")
        .and_then(|rest| rest.strip_suffix(".draft"))
        .is_some_and(|digits| {
            digits.len() == 16
                && digits
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// Locks an open file, unless another process holds it or it has lost its name.
///
/// Where a file system knows no locks the answer is `unlockable`: a draft is made all the same, and is never
/// thought to be nobody's.
#[cfg(unix)]
fn hold(file: &File, path: &Path, unlockable: bool) -> bool {
    use std::os::unix::fs::MetadataExt;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return false,
        Err(TryLockError::Error(_)) => return unlockable,
        Ok(()) => {}
    }
    let of = |found: fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => of(open) == of(named),
        _ => false,
    }
}

#[cfg(not(unix))]
fn hold(_file: &File, _path: &Path, unlockable: bool) -> bool {
    // Locks there keep others from reading, too.
    unlockable
}

/// Makes the names in a folder durable, where the system knows such a thing.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
