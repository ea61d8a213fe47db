"""Answers the server's routes, and feeds pages that watch a run."""
