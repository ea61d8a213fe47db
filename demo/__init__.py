"""Holds the embedded model of invented people: renderer, language, build script, weights and loader."""
