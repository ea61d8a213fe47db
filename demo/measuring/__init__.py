"""Recognizes people of the demo in pictures, and measures what a prefix does to them."""
