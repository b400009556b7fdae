"""What goes to a terminal or a pipe, and what comes from it."""
