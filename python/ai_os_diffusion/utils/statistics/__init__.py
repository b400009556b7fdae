"""Numbers that were fitted to what was judged, as data."""
