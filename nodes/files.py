"""Defines the nodes that load and save prefix files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from comfy_api.v0_0_2 import io

from ..prefix import (
    TORCH_SUFFIXES,
    Prefix,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixNameError,
    file_path,
    holds_textual_inversion,
    load_prefix,
    same_tensors,
    save_prefix,
    save_textual_inversion,
)
from ..prefix.files.preview import load_with_preview, save_preview
from .enforcement.guards import Guarding
from .shared.folder import (
    content_hash,
    embedding_folder,
    fault_of,
    file_choices,
    find_file,
    require_no_embeddings_in,
    save_folder,
)
from .shared.inputs import checked
from .shared.interface import PrefixSocket, tell

OWN = "safetensors"
TEXTUAL_INVERSION = "textual inversion"


class LoadAnonymizationPrefix(io.ComfyNode):
    """Reads a prefix file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadAnonymizationPrefix",
            display_name="Load Anonymization Prefix",
            category="anonymize",
            description="Loads a prefix from models/anonymization_prefixes, to use it in several places or save it"
            " under another name or in another format. Reads textual inversions as well.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=file_choices(),
                    tooltip="A prefix file in models/anonymization_prefixes, or a textual inversion there"
                    " (.safetensors, .pt, .bin); press R to see new ones.",
                )
            ],
            outputs=[
                PrefixSocket.Output(display_name="prefix", tooltip="The prefix, with the record of how it was learned.")
            ],
        )

    @classmethod
    def validate_inputs(cls, file: Any = None) -> bool | str:
        """Refuses a missing file before anything runs; a name that comes from another node is only known later."""
        return file is None or fault_of(file) or True

    @classmethod
    def fingerprint_inputs(cls, file: Any = None) -> str:
        """Runs the node anew when the file of that name holds something else; see `folder.content_hash`."""
        return content_hash(file)

    @classmethod
    @checked("file")
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_with_preview(find_file(file)))


class SaveAnonymizationPrefix(io.ComfyNode):
    """Writes a prefix file and shows where."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveAnonymizationPrefix",
            display_name="Save Anonymization Prefix",
            category="anonymize",
            description="Saves a prefix into models/anonymization_prefixes, or as a textual inversion into"
            " models/embeddings. Nothing is ever overwritten: another prefix of the same name gets a number, the same"
            " one is not saved twice.",
            is_output_node=True,
            inputs=[
                PrefixSocket.Input("prefix", tooltip="The prefix to save."),
                io.String.Input(
                    "name", default="anonymous", tooltip="Name of the file. Sub folders are given with '/'."
                ),
                io.Combo.Input(
                    "format",
                    options=[OWN, TEXTUAL_INVERSION],
                    default=OWN,
                    tooltip="safetensors keeps the record of how the prefix was learned. textual inversion (SD1 and"
                    " SDXL; only if it was learned with 'conditional' off) goes to models/embeddings, for A1111, Forge,"
                    " diffusers and 'embedding:name' in ComfyUI.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, name: Any = None) -> bool | str:
        """Refuses a name that no file can have before anything runs; one that comes by a wire is only known later."""
        if name is None:
            return True
        try:
            file_path(str(name))
        except PrefixNameError as error:
            return str(error)
        return True

    @classmethod
    @checked()
    def execute(cls, prefix: Prefix, name: str, format: str) -> io.NodeOutput:
        if format == TEXTUAL_INVERSION:
            if Guarding.enforcement is not None:
                raise PrefixFileError(
                    "This server anonymizes every prompt, and nobody but its operator puts embeddings into it: save the"
                    f" prefix as {OWN}, which Export in the Anonymize Faces tab hands you."
                )
            path = _save(prefix, embedding_folder() / file_path(name), _save_embedding, holds_textual_inversion)
        else:
            path = _save(prefix, save_folder() / file_path(name), _save_own, _holds)
        return io.NodeOutput(ui=tell(str(path)))


def _save(
    prefix: Prefix, wanted: Path, save: Callable[[Prefix, Path], Path], holds: Callable[[Path, Prefix], bool]
) -> Path:
    """Saves under the name wanted, or with the first number that is free; a file with this very prefix is kept."""
    for number in count(1):
        path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}_{number}")
        try:
            return save(prefix, path)
        except PrefixFileExistsError:
            if holds(path, prefix):
                return path


def _save_own(prefix: Prefix, path: Path) -> Path:
    """Saves unless the server would protect with the new file when it starts again, or find an embedding in it."""
    enforcement = Guarding.enforcement
    if enforcement is not None:
        if enforcement.names(path.relative_to(save_folder()).as_posix()):
            raise PrefixNameError(
                f"This server anonymizes every prompt with a prefix named '{path.stem}', which only its operator can"
                " change: choose another name."
            )
        require_no_embeddings_in(save_folder())
    saved = save_prefix(prefix, path)
    save_preview(prefix, saved)
    return saved


def _save_embedding(prefix: Prefix, path: Path) -> Path:
    """Saves unless the host would find the new file where it finds another embedding of the artist's now."""
    for suffix in ("", *TORCH_SUFFIXES):
        if path.with_suffix(suffix).is_file():
            raise PrefixFileExistsError(f"There is an embedding '{path.stem}' already: choose another name.")
    return save_textual_inversion(prefix, path)


def _holds(path: Path, prefix: Prefix) -> bool:
    """Whether the file holds this very prefix; one that cannot be read does not."""
    try:
        saved = load_prefix(path)
    except PrefixFileError:
        return False
    return same_tensors(saved, prefix) and saved.record.to_json() == prefix.record.to_json()


NODES = [LoadAnonymizationPrefix, SaveAnonymizationPrefix]
