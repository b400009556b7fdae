//! What can be wrong with an index.

/// Why an index cannot be used. It is a copy of what the texts say, and is to be made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes fail their checksum or contradict each other.
    #[error("damaged at byte {offset}: {what}")]
    Malformed {
        /// Where in the file.
        offset: u64,
        /// What was expected and found.
        what: &'static str,
    },
    /// The index is of another format, or its texts were taken apart in another way.
    #[error("format version {found}, not {known}")]
    Version {
        /// Version of the file.
        found: u32,
        /// Version of this build.
        known: u32,
    },
    /// The index is of other texts.
    #[error("it was made of another file")]
    Stale,
}

/// What reading an index gives.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn malformed(offset: usize, what: &'static str) -> Error {
    Error::Malformed {
        offset: offset as u64,
        what,
    }
}
