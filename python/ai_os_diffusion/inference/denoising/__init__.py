"""Text by diffusion: a model's passes as a denoiser, prompts and canvases for it, and its result."""
