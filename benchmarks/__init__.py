"""Without this package no claim of speed could be checked: each module prints its ratios against its reference last."""
