"""Questions to hits, hits to sentences, sentences to answers that say where they stand."""
