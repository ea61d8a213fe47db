"""Rebuilds the demo's weights from nothing: pictures, autoencoder, reader, language, denoiser."""
