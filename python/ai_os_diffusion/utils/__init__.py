"""Errors, logging and the embedding protocol."""
