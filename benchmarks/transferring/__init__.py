"""Draws with models that somebody fine-tuned, and with a prefix that was learned before that."""
