"""The verbs of the program: each parses, calls the runtime and prints."""
