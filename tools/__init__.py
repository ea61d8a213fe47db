"""Without this package nothing would set up, start or talk to a ComfyUI host: the tools behind the Makefile."""
