"""Holds what benchmarks share: layouts of models, timing in pairs, memory, the authors' loop."""
