//! Everything that can go wrong with a store.

use std::io;
use std::path::PathBuf;

/// Result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Bytes on disk fail their checksum or contradict each other.
    #[error("{} is damaged at byte {offset}: {what}; the rest of the store stays readable with read_only=True, skip_damaged=True", path.display())]
    Corrupted {
        /// Damaged file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What was expected and found.
        what: String,
    },
    /// A file is of a version this build does not know.
    #[error("{} has format version {found}; this build reads up to {known}: upgrade to open it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest known version.
        known: u32,
    },
    /// Another handle is writing.
    #[error("the store {} is being written by {holder}; wait for it, raise lock_timeout_s, or open with read_only=True", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
        /// Who holds the lock, as it described itself.
        holder: String,
    },
    /// There is no store here.
    #[error("there is no memory store in {}: {what}", path.display())]
    NoStore {
        /// The folder.
        path: PathBuf,
        /// What is there instead.
        what: String,
    },
    /// A vector has the wrong length.
    #[error("{which} has {found} dimensions; the store holds vectors of {expected}")]
    Dimension {
        /// Whose vector.
        which: String,
        /// Length of the store's vectors.
        expected: usize,
        /// Length of this one.
        found: usize,
    },
    /// A vector cannot be compared with others.
    #[error("{which} {what}; a vector needs finite numbers and a length between 1e-15 and 1e15")]
    Vector {
        /// Whose vector.
        which: String,
        /// What is wrong with it.
        what: String,
    },
    /// An argument is out of range.
    #[error("{what}: expected {expected}, got {found}")]
    Invalid {
        /// The argument.
        what: String,
        /// What it may be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A filter cannot be understood.
    #[error(
        "filter: {what}; operators are $eq $ne $gt $gte $lt $lte $in $nin $exists $prefix $and $or $nor $not"
    )]
    Filter {
        /// The part at fault.
        what: String,
    },
    /// The store was filled with another model's vectors.
    #[error(
        "the store holds vectors of model {stored:?}, not of {given:?}: open it with the first, or embed its texts again into a new store"
    )]
    Model {
        /// Model the store remembers.
        stored: String,
        /// Model it was opened with.
        given: String,
    },
    /// A file of vectors that do not compare with the store's.
    #[error(
        "{} holds vectors of model {given:?}, the store those of {stored:?}: import it into another store, or embed its texts again with the store's model", path.display()
    )]
    ForeignVectors {
        /// The file.
        path: PathBuf,
        /// Model that the file names.
        given: String,
        /// Model that the store remembers.
        stored: String,
    },
    /// A write on a handle opened for reading.
    #[error("the store {} was opened with read_only=True; open it for writing", path.display())]
    ReadOnly {
        /// The store.
        path: PathBuf,
    },
    /// A write after a failed sync: what the disk holds is unknown until the store is opened again.
    #[error("the store {} stopped writing because {cause}; close it and open it again", path.display())]
    Stopped {
        /// The store.
        path: PathBuf,
        /// The failure.
        cause: String,
    },
    /// The handle was closed.
    #[error("the store {} is closed; open it again", path.display())]
    Closed {
        /// The store.
        path: PathBuf,
    },
    /// The handle was inherited by a forked process.
    #[error("the store {} was opened by process {opened_by}, before a fork; open it in this process", path.display())]
    Forked {
        /// The store.
        path: PathBuf,
        /// Process that opened it.
        opened_by: u32,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space and try again"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; make the folder writable, or open with read_only=True"
        }
        _ => "",
    }
}

impl Error {
    pub(crate) fn corrupted(
        path: impl Into<PathBuf>,
        offset: u64,
        what: impl Into<String>,
    ) -> Self {
        Self::Corrupted {
            path: path.into(),
            offset,
            what: what.into(),
        }
    }

    pub(crate) fn invalid(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            what: what.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(crate) fn is_missing_file(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Names the action and the file of a failed system call.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T> {
        self.map_err(|source| Error::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
