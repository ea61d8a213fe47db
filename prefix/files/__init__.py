"""Reads, writes and looks after prefix files."""
