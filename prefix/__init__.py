"""Without this package nobody could say what a prefix is, how it is stored or how it enters a prompt."""

from .errors import (
    AnonymizationError,
    IdentityError,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixMismatchError,
    PrefixValueError,
    TrainingError,
)
from .file import SUFFIX, load_prefix, save_prefix
from .fingerprint import fingerprint
from .injection import carries, eject, inject, require_fit
from .naming import file_path
from .value import FORMAT_VERSION, Prefix, PrefixRecord

__all__ = [
    "FORMAT_VERSION",
    "SUFFIX",
    "AnonymizationError",
    "IdentityError",
    "Prefix",
    "PrefixFileError",
    "PrefixFileExistsError",
    "PrefixMismatchError",
    "PrefixRecord",
    "PrefixValueError",
    "TrainingError",
    "carries",
    "eject",
    "file_path",
    "fingerprint",
    "inject",
    "load_prefix",
    "require_fit",
    "save_prefix",
]
