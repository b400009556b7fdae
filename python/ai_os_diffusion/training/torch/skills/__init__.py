"""A card in the making, one step after the other: what skills are learned with on a GPU."""
