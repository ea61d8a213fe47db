"""Without this package nobody could say what a prefix is, how it is stored or how it enters a prompt: its public face."""

from .errors import (
    AnonymizationError,
    IdentityError,
    PrefixFileError,
    PrefixMismatchError,
    PrefixValueError,
    TrainingError,
)
from .fingerprint import fingerprint
from .injection import eject, inject, require_fit
from .value import FORMAT_VERSION, Prefix, PrefixRecord

__all__ = [
    "FORMAT_VERSION",
    "AnonymizationError",
    "IdentityError",
    "Prefix",
    "PrefixFileError",
    "PrefixMismatchError",
    "PrefixRecord",
    "PrefixValueError",
    "TrainingError",
    "eject",
    "fingerprint",
    "inject",
    "require_fit",
]
