"""Defines the denoiser that a run learns on, and holds what stands behind it: ComfyUI and diffusers."""
