"""Sets up, starts and talks to a ComfyUI host: the tools behind the Makefile."""
