"""Speaks to ComfyUI's MODEL, CLIP and VAE, and protects a CLIP."""
