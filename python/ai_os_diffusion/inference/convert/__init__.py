"""Converters, one file a source format."""
