"""The memory store: vectors it is given, never embeds."""
