"""Defines all errors, each a sentence with a remedy.

    AnonymizationError
        PrefixValueError
        PrefixFileError
            PrefixFileExistsError
            PrefixFileMissingError
            PrefixNameError
        PrefixMismatchError
        ListError
            IdentityError
        TrainingError
        MeasurementError
            WeightsError
        PhotoError
        DescriptionError
        ExpertsError

Four more derive from `AnonymizationError` where they belong: `InputError` (nodes/shared/inputs.py), `BadRequestError`
(nodes/server/requests.py), `PromptRefusedError` (nodes/enforcement/rewriting.py) and `SettingsFileError`
(cli/settings_file.py).
"""

import re

_SURROGATES = re.compile("[\ud800-\udfff]")


class AnonymizationError(Exception):
    """Base of every error this project raises on purpose. Its text is one sentence and a remedy, fit for an artist."""


class PrefixValueError(AnonymizationError):
    """Vectors or a record that cannot be a prefix: wrong shape, dtype, not finite, no encoder, unsound record."""


class PrefixFileError(AnonymizationError):
    """A prefix file that cannot be read, is not what it claims to be, or cannot be written."""


class PrefixFileExistsError(PrefixFileError):
    """There is a file of that name already, and nobody said to overwrite it."""


class PrefixFileMissingError(PrefixFileError):
    """There is no prefix file of that name."""


class PrefixNameError(PrefixFileError):
    """What cannot name a prefix file: it leads elsewhere, or some system could not store it."""


class PrefixMismatchError(AnonymizationError):
    """A prefix that does not fit what it is to protect: a text encoder is missing or unknown, or widths differ."""


class ListError(AnonymizationError):
    """A list, of people or of prompts, that cannot be read: a file that is no text, or a line that is unclear."""


class IdentityError(ListError):
    """A list of identities that cannot be read."""


class TrainingError(AnonymizationError):
    """A prefix that cannot be learned with the model, identities or settings given."""


class MeasurementError(AnonymizationError):
    """Pictures that cannot be measured, or a recognizer of faces that cannot be used."""


class PhotoError(AnonymizationError):
    """Photographs that cannot be protected, or attacked, as they are."""


class WeightsError(MeasurementError):
    """Weights of a recognizer that are not there, cannot be fetched, or are not what they should be."""


class DescriptionError(AnonymizationError):
    """Faces that cannot be described: pictures, attributes or a reader of looks that do not serve."""


class ExpertsError(AnonymizationError):
    """Experts that cannot be learned, read, saved or used: of another model, damaged, or nothing to remove."""


def first_line(error: BaseException) -> str:
    """What somebody else's error says, in so many words as fit into a sentence of ours."""
    return str(error).strip().split("\n")[0].rstrip(".")[:200] or type(error).__name__


def shown(name: object) -> str:
    """A file's name as it can be printed and sent: what is no text in it becomes a mark."""
    return _SURROGATES.sub("\ufffd", str(name))


_OF_FILES = ("SafetensorError", "inline_container", "No space left")
"""Names and words of errors that libraries raise in place of an OSError."""


def trouble_of(error: BaseException) -> str | None:
    """What a person is told of an error that files or a want of memory made; None if it is of no such kind."""
    if isinstance(error, MemoryError):
        return "There is not enough memory: end other programs, then run the same command again."
    if isinstance(error, OSError):
        where = f"'{error.filename}': " if error.filename else ""
        return f"{where}{error.strerror or first_line(error)}. See to it, then run the same command again."
    if type(error).__name__ in _OF_FILES or any(words in str(error) for words in _OF_FILES):
        return f"A file cannot be read or written ({first_line(error)}). See to it, then run the same command again."
    return None
