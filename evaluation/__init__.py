"""Without this package nobody could say what a prefix is worth: the paper's evaluation as one job, for any denoiser."""
