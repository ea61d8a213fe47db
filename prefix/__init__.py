"""Defines what a prefix is, its file, and how it enters a prompt."""

from .digests import fingerprint, seal
from .errors import (
    AnonymizationError,
    IdentityError,
    ListError,
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
from .files.naming import file_path, path_inside
from .files.prefix_file import SUFFIXES, TORCH_SUFFIXES, load_prefix, save_prefix
from .files.storage import SUFFIX, put_whole, read_whole
from .files.textual_inversion import holds_textual_inversion, save_textual_inversion
from .injection.blending import blend, require_strength
from .injection.encoder_layouts import ClipChunks, encoder_layout, key_of
from .injection.inject import (
    Frame,
    carries,
    eject,
    frame_of,
    inject,
    inject_text,
    require_fit,
    restore,
    without_word_ids,
    words,
)
from .injection.looked_at import looked_at
from .layers import allowed_layers, layers_note, require_layers
from .markup import as_markup
from .provenance import checkpoint_note, require_family
from .scored import scores_hold, with_scores
from .value import FORMAT_VERSION, Prefix, PrefixRecord, prefix_of, same_tensors

__all__ = [
    "FORMAT_VERSION",
    "SUFFIX",
    "SUFFIXES",
    "TORCH_SUFFIXES",
    "AnonymizationError",
    "ClipChunks",
    "Frame",
    "IdentityError",
    "ListError",
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
    "as_markup",
    "blend",
    "carries",
    "checkpoint_note",
    "eject",
    "encoder_layout",
    "file_path",
    "fingerprint",
    "frame_of",
    "holds_textual_inversion",
    "inject",
    "inject_text",
    "key_of",
    "layers_note",
    "load_prefix",
    "looked_at",
    "path_inside",
    "prefix_of",
    "put_whole",
    "read_whole",
    "require_family",
    "require_fit",
    "require_layers",
    "require_strength",
    "restore",
    "same_tensors",
    "save_prefix",
    "save_textual_inversion",
    "scores_hold",
    "seal",
    "with_scores",
    "without_word_ids",
    "words",
]
