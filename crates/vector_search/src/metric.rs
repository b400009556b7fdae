//! What "near" means.

use kernels::{dot_rows, squared_distance_rows};

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Cosine of the angle, in [-1, 1].
    Cosine,
    /// Dot product.
    Dot,
    /// Euclidean distance; as a similarity, its negative.
    Euclidean,
}

impl Metric {
    /// What the metric needs of `queries[m, dim]` and `rows[n, dim]`: `out[m, n]`.
    pub(crate) fn compare(self, queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
        match self {
            Self::Cosine | Self::Dot => dot_rows(queries, rows, dim, out),
            Self::Euclidean => squared_distance_rows(queries, rows, dim, out),
        }
    }
}

/// Euclidean length.
#[must_use]
pub fn norm(vector: &[f32]) -> f32 {
    let mut square = [0.0];
    dot_rows(vector, vector, vector.len(), &mut square);
    square[0].sqrt()
}

/// A vector to compare rows with, prepared for one metric.
#[derive(Debug, Clone)]
pub struct Query {
    vector: Vec<f32>,
    inverse_norm: f32,
    metric: Metric,
}

impl Query {
    /// Prepares `vector`, which is finite and not zero.
    #[must_use]
    pub fn new(vector: Vec<f32>, metric: Metric) -> Self {
        let inverse_norm = 1.0 / norm(&vector);
        Self {
            vector,
            inverse_norm,
            metric,
        }
    }

    /// The vector.
    #[must_use]
    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// The metric.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Similarity to a row, from what [`Metric::compare`] found for it; higher is nearer.
    #[inline]
    pub(crate) fn similarity_of(&self, compared: f32, inverse_norm: f32) -> f32 {
        match self.metric {
            Metric::Dot => compared,
            Metric::Cosine => (compared * (self.inverse_norm * inverse_norm)).clamp(-1.0, 1.0),
            Metric::Euclidean => -compared.sqrt(),
        }
    }

    /// Similarity to one row, equal to what a scan finds for it.
    #[must_use]
    pub fn similarity(&self, row: &[f32]) -> f32 {
        let mut compared = [0.0];
        self.metric
            .compare(&self.vector, row, row.len(), &mut compared);
        self.similarity_of(compared[0], 1.0 / norm(row))
    }
}
