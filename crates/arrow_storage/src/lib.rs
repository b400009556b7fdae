//! Durable memory store: log, segments, manifest, recovery.
//!
//! A store is a folder with one writer and any number of readers, in any process. A commit is a frame in the
//! log and is acknowledged once the disk holds it; a long log becomes a segment, an immutable Parquet
//! file with its vectors beside it for scanning; a manifest, replaced atomically, names the files.
//! `docs/formats/store.md` draws the bytes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod arrow_schema;
mod checksum;
mod dead_table;
mod disk_lock;
mod engine;
mod error;
mod filter;
mod flush;
mod folder;
mod follow;
mod foreign;
mod frame;
mod lock;
mod log;
mod log_words;
mod manifest;
mod memory;
mod merge;
mod model;
mod mover;
mod options;
mod projection;
mod recovery;
mod removals;
mod segment;
mod snapshot;
mod state;
mod stats;
mod store;
mod sync;
mod table;
mod tail;
mod takeover;
mod tautology;
mod text_index;
mod text_query;
mod tombstones;
mod torn;
mod transfer;
mod vectors;
mod verify;
mod vfs;
mod writer;

pub use error::{Error, Result};
pub use filter::Filter;
pub use flush::Check;
pub use memory::{
    MAX_CONTENT_BYTES, MAX_DIMENSION, MAX_ID_BYTES, MAX_METADATA_BYTES, Memory, Patch,
};
pub use options::{Durability, Options};
pub use snapshot::{Hit, Scan, SearchOptions, Snapshot};
pub use stats::Stats;
pub use store::Store;
pub use text_query::{BothHit, BothReply, IndexState, TextOptions, TextReply};
pub use text_search::Bm25;
pub use transfer::import_parquet;
pub use vector_search::Metric;
pub use vfs::{Disk, Stamp, Vfs, VfsFile, VfsLock};
