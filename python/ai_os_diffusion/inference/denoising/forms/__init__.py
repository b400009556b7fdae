"""JSON objects as forms with slots, and what is written into them as their values."""
