//! Durable memory store: log, segments, manifest, recovery.
