//! Distances and exact top-k scans over embeddings.
//!
//! [`search`] scans rows for one or many queries and returns the best of each, in the same order on
//! every CPU and for every number of threads: dot products are summed in sixteen lanes with fused
//! multiply-adds in one fixed order, whatever the instruction set, and equal scores are ordered by row.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bitmap;
mod lanes;
mod metric;
mod scan;
mod top_k;

pub use bitmap::Bitmap;
pub use lanes::{dot, norm, squared_distance};
pub use metric::{Metric, Query};
pub use scan::{Rows, search};
pub use top_k::{Scored, TopK};
