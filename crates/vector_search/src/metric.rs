//! What "near" means.

use crate::lanes;

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
        let inverse_norm = 1.0 / lanes::norm(&vector);
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

    /// Similarity to four rows with their inverse norms; higher is nearer.
    pub(crate) fn similarities(&self, rows: [&[f32]; 4], inverse_norms: [f32; 4]) -> [f32; 4] {
        match self.metric {
            Metric::Dot => lanes::dot_4(&self.vector, rows),
            Metric::Cosine => {
                let dots = lanes::dot_4(&self.vector, rows);
                std::array::from_fn(|i| {
                    (dots[i] * (self.inverse_norm * inverse_norms[i])).clamp(-1.0, 1.0)
                })
            }
            Metric::Euclidean => {
                lanes::squared_distance_4(&self.vector, rows).map(|square| -square.sqrt())
            }
        }
    }

    /// Similarity to one row, equal to what a scan finds for it.
    #[must_use]
    pub fn similarity(&self, row: &[f32]) -> f32 {
        self.similarities([row; 4], [1.0 / lanes::norm(row); 4])[0]
    }
}
