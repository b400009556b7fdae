//! How a store is opened.

use crate::vfs::{Disk, Vfs};
use std::sync::Arc;
use std::time::Duration;

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the disk holds it.
    Commit,
    /// When the system holds it; the disk follows within 100 ms, or after 1 MiB of commits.
    Batch,
    /// When the system holds it; the disk follows on flush and on close.
    None,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Open without the right to write, beside a writer.
    pub read_only: bool,
    /// Read around damage instead of failing on it. For reading only.
    pub skip_damaged: bool,
    /// Length of the vectors; the first one decides when not given.
    pub dimension: Option<usize>,
    /// Fingerprint of the model that makes the vectors.
    pub model: Option<String>,
    /// When a commit counts as done.
    pub durability: Durability,
    /// Longest wait for another writer.
    pub lock_timeout: Duration,
    /// File system.
    pub vfs: Arc<dyn Vfs>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            skip_damaged: false,
            dimension: None,
            model: None,
            durability: Durability::Commit,
            lock_timeout: Duration::ZERO,
            vfs: Arc::new(Disk),
        }
    }
}
