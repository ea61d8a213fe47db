"""Without this package nobody could say what a prefix is, how it is stored or how it enters a prompt."""

from .blending import blend, require_strength
from .errors import (
    AnonymizationError,
    IdentityError,
    MeasurementError,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixFileMissingError,
    PrefixMismatchError,
    PrefixNameError,
    PrefixValueError,
    TrainingError,
    WeightsError,
)
from .families import ClipChunks, family_of, key_of
from .file import SUFFIXES, TORCH_SUFFIXES, load_prefix, save_prefix
from .fingerprint import fingerprint
from .injection import Frame, carries, eject, frame_of, inject, inject_text, require_fit, words
from .layers import allowed_layers, layers_note, require_layers
from .naming import file_path, path_inside
from .provenance import checkpoint_note, require_family
from .scored import scores_hold, with_scores
from .seal import seal
from .storage import SUFFIX, put_whole, read_whole
from .textual_inversion import holds_textual_inversion, save_textual_inversion
from .value import FORMAT_VERSION, Prefix, PrefixRecord

__all__ = [
    "FORMAT_VERSION",
    "SUFFIX",
    "SUFFIXES",
    "TORCH_SUFFIXES",
    "AnonymizationError",
    "ClipChunks",
    "Frame",
    "IdentityError",
    "MeasurementError",
    "Prefix",
    "PrefixFileError",
    "PrefixFileExistsError",
    "PrefixFileMissingError",
    "PrefixMismatchError",
    "PrefixNameError",
    "PrefixRecord",
    "PrefixValueError",
    "TrainingError",
    "WeightsError",
    "allowed_layers",
    "blend",
    "carries",
    "checkpoint_note",
    "eject",
    "family_of",
    "file_path",
    "fingerprint",
    "frame_of",
    "holds_textual_inversion",
    "inject",
    "inject_text",
    "key_of",
    "layers_note",
    "load_prefix",
    "path_inside",
    "put_whole",
    "read_whole",
    "require_family",
    "require_fit",
    "require_layers",
    "require_strength",
    "save_prefix",
    "save_textual_inversion",
    "scores_hold",
    "seal",
    "with_scores",
    "words",
]
