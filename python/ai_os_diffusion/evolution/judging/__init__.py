"""Whether what was learned is kept: what it answers, and what is said elsewhere."""
