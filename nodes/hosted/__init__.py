"""Runs the networks that find, recognize and describe faces within the host's memory management."""
