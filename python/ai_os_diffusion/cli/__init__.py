"""The command aios: parse, call the runtime, print."""
