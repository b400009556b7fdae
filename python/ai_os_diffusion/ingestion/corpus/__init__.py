"""Which files a list of paths means."""
