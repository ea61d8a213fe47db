"""Learns a prefix: data, objective, loop and validation."""
