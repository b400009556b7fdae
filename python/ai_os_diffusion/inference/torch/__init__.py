"""The torch backend: the readable twin of the native core."""
