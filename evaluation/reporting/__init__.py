"""Tells what an evaluation found: as words, a table, a page, a picture and files."""
