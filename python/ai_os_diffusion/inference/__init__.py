"""Text to vectors and text: weights, tokenizers, models, devices."""
