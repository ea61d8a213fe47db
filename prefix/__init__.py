"""Without this package nobody could say what a prefix is, how it is stored or how it enters a prompt: its public face."""

from .errors import (
    AnonymizationError,
    IdentityError,
    PrefixFileError,
    PrefixMismatchError,
    PrefixValueError,
    TrainingError,
)
from .file import SUFFIX, load_prefix, save_prefix
from .fingerprint import fingerprint
from .injection import eject, inject, require_fit
from .value import FORMAT_VERSION, Prefix, PrefixRecord

__all__ = [
    "FORMAT_VERSION",
    "SUFFIX",
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
    "load_prefix",
    "require_fit",
    "save_prefix",
]
