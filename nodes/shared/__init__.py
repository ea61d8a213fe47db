"""Serves several nodes: what they are given, which prefix files there are, and what they tell the host."""
