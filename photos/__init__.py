"""Protects photographs of a person against models that are personalized on them, and measures how well it holds."""
