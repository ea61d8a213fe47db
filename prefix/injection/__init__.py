"""Places prefix vectors in the host's tokens."""
