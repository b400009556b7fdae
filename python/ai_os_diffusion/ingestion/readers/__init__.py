"""One reader a format: text or bytes in, blocks with their lines out."""
