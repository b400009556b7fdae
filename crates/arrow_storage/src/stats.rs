//! Figures about a store.

/// Figures about a store.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Memories.
    pub count: usize,
    /// Length of the vectors.
    pub dimension: Option<usize>,
    /// Fingerprint of the model.
    pub model: Option<String>,
    /// Segments.
    pub segments: usize,
    /// Rows of segments that were deleted or replaced.
    pub dead_rows: usize,
    /// Memories that are in the log alone.
    pub log_rows: usize,
    /// Bytes of the Parquet files.
    pub table_bytes: u64,
    /// Bytes of the vectors files.
    pub vector_bytes: u64,
    /// Bytes of the indexes of texts.
    pub text_index_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Commits since the store was made.
    pub commits: u64,
    /// Version of the format.
    pub format_version: u32,
    /// Bytes of an unacknowledged commit that opening cut off.
    pub torn_bytes: u64,
    /// What is being skipped.
    pub damage: Vec<String>,
}
