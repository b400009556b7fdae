//! Text to token ids and back, in parallel batches.
