"""Without this package nobody could say whether a prefix protects: it finds faces, recognizes them and scores them."""
