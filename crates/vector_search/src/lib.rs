//! Distances and exact top-k scans over embeddings.
