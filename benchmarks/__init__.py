"""Without this package what the extension costs would be a matter of belief: each module prints figures it measured."""
