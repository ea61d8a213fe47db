"""Makes what a run does beside its steps: before them, between them, and after the last."""
