"""Fine-tunes a denoiser on pictures with captions, by either engine: full, by LoRA, or by an embedding alone."""
