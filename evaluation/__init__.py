"""Evaluates prefixes by the paper's protocol as one job, for any denoiser."""
