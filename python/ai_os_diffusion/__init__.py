"""A local AI engine that embeds, remembers and answers on one ordinary machine."""

__version__ = "0.1.0"
