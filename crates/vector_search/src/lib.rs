//! Distances and exact top-k scans over embeddings.
//!
//! [`search`] scans rows for one or many queries and returns the best of each, in the same order on
//! every CPU and for every number of threads: the kernels sum in one fixed order, whatever the instruction
//! set and however many vectors are compared at once, and equal scores are ordered by row.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bitmap;
mod metric;
mod scan;
mod top_k;

pub use bitmap::Bitmap;
pub use metric::{Metric, Query, norm};
pub use scan::{Rows, search};
pub use top_k::{Scored, TopK};
