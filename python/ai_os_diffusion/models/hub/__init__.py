"""The files of a model from where they are published: a hub's repository or a package index."""
