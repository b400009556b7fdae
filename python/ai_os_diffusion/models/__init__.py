"""What a model is on disk, and how it gets there."""
