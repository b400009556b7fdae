//! One memory, and what it must satisfy before it is written.

use crate::error::{Error, Result};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest id, in bytes.
pub const MAX_ID_BYTES: usize = 1024;
/// Longest content, in bytes.
pub const MAX_CONTENT_BYTES: usize = 64 << 20;
/// Longest metadata, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 1 << 20;
/// Longest embedding.
pub const MAX_DIMENSION: usize = 65_536;

/// The years 1 to 9999, in microseconds since the epoch: what dates of ISO 8601 and of other tools can say.
pub(crate) const TIMES: std::ops::RangeInclusive<i64> =
    -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Lengths whose squares and products stay finite and normal in single precision.
const NORMS: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

/// A stored memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Name, unique in the store.
    pub id: String,
    /// Text.
    pub content: String,
    /// A JSON object.
    pub metadata: String,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch.
    pub updated_at: i64,
    /// Vector.
    pub embedding: Vec<f32>,
}

/// What to change about a stored memory.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    /// New text.
    pub content: Option<String>,
    /// New JSON object.
    pub metadata: Option<String>,
    /// New vector.
    pub embedding: Option<Vec<f32>>,
}

impl Memory {
    /// A memory made now. Saved over an older one of its id, it keeps that one's `created_at`.
    #[must_use]
    pub fn new(id: String, content: String, metadata: String, embedding: Vec<f32>) -> Self {
        let now = now_micros();
        Self {
            id,
            content,
            metadata,
            created_at: now,
            updated_at: now,
            embedding,
        }
    }

    /// Checks everything but the dimension, which the store knows.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.id.is_empty() {
            return Err(Error::invalid(
                "memory_id",
                "a text that is not empty",
                "an empty one",
            ));
        }
        limit("memory_id", self.id.len(), MAX_ID_BYTES)?;
        limit(
            &format!("content of {:?}", self.id),
            self.content.len(),
            MAX_CONTENT_BYTES,
        )?;
        limit(
            &format!("metadata of {:?}", self.id),
            self.metadata.len(),
            MAX_METADATA_BYTES,
        )?;
        if !self.metadata.starts_with('{') {
            return Err(Error::invalid(
                format!("metadata of {:?}", self.id),
                "a JSON object",
                "another value",
            ));
        }
        // As a filter will read it.
        serde_json::from_str::<serde_json::Value>(&self.metadata).map_err(|error| {
            Error::invalid(
                format!("metadata of {:?}", self.id),
                "a JSON object of at most 127 levels and numbers below 1.8e308",
                error.to_string(),
            )
        })?;
        validate_vector(&self.embedding, || {
            format!("the embedding of {:?}", self.id)
        })
    }

    /// Checks times that were given, and not read from the clock.
    pub(crate) fn validate_times(&self) -> Result<()> {
        let times = [
            ("created_at", self.created_at),
            ("updated_at", self.updated_at),
        ];
        match times.iter().find(|(_, time)| !TIMES.contains(time)) {
            None => Ok(()),
            Some((name, time)) => Err(Error::invalid(
                format!("{name} of {:?}", self.id),
                "a time of the years 1 to 9999",
                format!("{time} microseconds since 1970"),
            )),
        }
    }

    /// Bytes it takes in memory and in the log, about.
    pub(crate) fn size_bytes(&self) -> usize {
        self.id.len() + self.content.len() + self.metadata.len() + 4 * self.embedding.len() + 64
    }
}

fn limit(what: &str, length: usize, most: usize) -> Result<()> {
    if length > most {
        return Err(Error::invalid(
            what,
            format!("at most {most} bytes"),
            format!("{length}"),
        ));
    }
    Ok(())
}

/// Refuses vectors that no metric can rank.
pub(crate) fn validate_vector(vector: &[f32], which: impl Fn() -> String) -> Result<()> {
    if vector.is_empty() || vector.len() > MAX_DIMENSION {
        return Err(Error::Vector {
            which: which(),
            what: format!("has {} dimensions, not 1 to {MAX_DIMENSION}", vector.len()),
        });
    }
    if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
        return Err(Error::Vector {
            which: which(),
            what: format!("holds {} at position {at}", vector[at]),
        });
    }
    let norm = vector
        .iter()
        .map(|&x| f64::from(x).powi(2))
        .sum::<f64>()
        .sqrt();
    if !NORMS.contains(&norm) {
        let what = if vector.iter().all(|&x| x == 0.0) {
            "is all zeros".to_owned()
        } else {
            format!("has length {norm:.3e}")
        };
        return Err(Error::Vector {
            which: which(),
            what,
        });
    }
    Ok(())
}

/// The clock, in microseconds since the epoch.
pub(crate) fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}
