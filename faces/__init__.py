"""Finds faces, recognizes them and scores them."""
