"""GGUF files: their container, blocks of weights, vocabulary and tokenizer."""
