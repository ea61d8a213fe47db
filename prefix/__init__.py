"""Without this package nobody could say what a prefix is, how it is stored or how it enters a prompt."""

from .blending import blend
from .errors import (
    AnonymizationError,
    IdentityError,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixMismatchError,
    PrefixValueError,
    TrainingError,
)
from .families import family_of, key_of
from .file import SUFFIX, load_prefix, save_prefix
from .fingerprint import fingerprint
from .injection import Frame, carries, eject, frame_of, inject, inject_text, require_fit, words
from .naming import file_path
from .value import FORMAT_VERSION, Prefix, PrefixRecord

__all__ = [
    "FORMAT_VERSION",
    "SUFFIX",
    "AnonymizationError",
    "Frame",
    "IdentityError",
    "Prefix",
    "PrefixFileError",
    "PrefixFileExistsError",
    "PrefixMismatchError",
    "PrefixRecord",
    "PrefixValueError",
    "TrainingError",
    "blend",
    "carries",
    "eject",
    "family_of",
    "file_path",
    "fingerprint",
    "frame_of",
    "inject",
    "inject_text",
    "key_of",
    "load_prefix",
    "require_fit",
    "save_prefix",
    "words",
]
