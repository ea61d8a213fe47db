"""Learns smaller denoisers, one for each kind of prompt, and sends prompts to them (docs/METHODS.md 8)."""
