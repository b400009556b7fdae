"""Skills that become part of the model: a new version of it."""
