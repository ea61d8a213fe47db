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
from .family import checkpoint_note, require_family
from .file import TORCH_SUFFIXES, load_prefix, save_prefix
from .fingerprint import fingerprint
from .injection import eject, inject, require_fit
from .naming import file_path, path_inside
from .storage import SUFFIX, read_whole
from .textual_inversion import holds_textual_inversion, save_textual_inversion
from .value import FORMAT_VERSION, Prefix, PrefixRecord

__all__ = [
    "FORMAT_VERSION",
    "SUFFIX",
    "TORCH_SUFFIXES",
    "AnonymizationError",
    "IdentityError",
    "Prefix",
    "PrefixFileError",
    "PrefixFileExistsError",
    "PrefixMismatchError",
    "PrefixRecord",
    "PrefixValueError",
    "TrainingError",
    "checkpoint_note",
    "eject",
    "file_path",
    "fingerprint",
    "holds_textual_inversion",
    "inject",
    "load_prefix",
    "path_inside",
    "read_whole",
    "require_family",
    "require_fit",
    "save_prefix",
    "save_textual_inversion",
]
