"""Measures what models make of descriptions that they are fine-tuned on."""
