"""Takes parts of a denoiser out of what it computes: whole blocks, or units of layers."""
