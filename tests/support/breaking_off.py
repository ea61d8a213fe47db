"""Breaks off what a test runs, as a person does who presses Cancel."""


class BrokenOffError(Exception):
    """Raised in place of what a host raises when a run is cancelled."""
