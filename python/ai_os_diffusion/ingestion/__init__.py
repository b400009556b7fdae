"""Documents to chunks with their source and line."""
