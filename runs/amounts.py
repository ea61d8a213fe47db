"""Tells times and amounts of memory in words for people.

It stands alone because the plans of learning, fine-tuning and protecting photos all use it.
"""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A time for people, rounded up to minutes from one minute on."""
    if seconds < 60:
        return "less than a minute"
    minutes = -(-int(seconds) // 60)
    if minutes < 60:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {minutes / 60:.1f} hours"


def gigabytes(count: int) -> str:
    """An amount of memory for people."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{max(1, round(count / 2**20))} MB"
