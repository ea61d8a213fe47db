"""Makes sure that no prompt runs unprotected on a server that enforces a prefix."""
