"""Defines the node Anonymize Faces, which protects a workflow."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.v0_0_2 import io

from ..engines.comfy.encoder_layers import usual_layers, usual_readings
from ..engines.comfy.protected_clip import is_protected, protect, read_beside
from ..engines.comfy.text_encoders import encoder_fingerprint, text_encoders, tokenized_keys
from ..prefix import Prefix, checkpoint_note, layers_note, load_prefix, require_family
from ..prefix.files.library import NEWEST
from .shared.folder import content_hash, fault_of, file_choices, find_file
from .shared.inputs import checked
from .shared.interface import PrefixSocket, said_of_prompts, tell

ABSENT = object()
"""Stands for an input that a workflow does not mention."""

REPLACED = (
    "This CLIP was protected already: the prefix of this node replaces the one before it."
    " Remove one of the two nodes if that is not what you want."
)


class ChoosesPrefix:
    """What nodes have in common that protect with a file or with a prefix that comes by a wire."""

    @classmethod
    def validate_inputs(cls, prefix: Any = ABSENT, learned_prefix: Any = ABSENT) -> bool | str:
        """Refuses a missing file before anything runs; what comes by a wire, to the host None, is only known later.

        Takes no more than that: the host repeats what is said here for every input that is taken.

        Raises:
            PrefixFileError: there is neither; the host has no input then to say it of, and drops what is returned.
        """
        if learned_prefix is not ABSENT or prefix is None:
            return True
        if prefix is ABSENT:
            find_file(None)
        return fault_of(prefix) or True

    @classmethod
    def fingerprint_inputs(cls, prefix: Any = "", **_: object) -> str:
        """Runs the node anew when the file of that name holds something else; see `folder.content_hash`."""
        return content_hash(prefix)


class AnonymizeFaces(ChoosesPrefix, io.ComfyNode):
    """Returns a CLIP with which every prompt draws its people without their faces."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AnonymizeFaces",
            display_name="Anonymize Faces",
            category="anonymize",
            description=(
                "Put it between the checkpoint and the prompts: people named in a prompt keep their described looks"
                " and get another face. Prompts that name nobody stay; names of places and characters mostly do."
                " Connect both prompts, the positive and the negative."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder to protect. It stays as it is; use the output."),
                io.Combo.Input(
                    "prefix",
                    options=file_choices(),
                    optional=True,
                    tooltip="The prefix to protect with: a file in models/anonymization_prefixes, learned on a"
                    " checkpoint of the same family. Textual inversions (.safetensors, .pt, .bin) serve as well.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,  # So that it stays behind the prefix, as in every workflow that was saved.
                    tooltip="1 is all the protection that the prefix gives. Below 1 the conditioning moves back towards"
                    " the plain one, and faces with it; 0 is no protection.",
                ),
                PrefixSocket.Input(
                    "learned_prefix",
                    optional=True,
                    tooltip="A prefix from Train Anonymization Prefix or Load Anonymization Prefix. If connected, it is"
                    " used instead of the file.",
                ),
            ],
            outputs=[
                io.Clip.Output(
                    display_name="CLIP", tooltip="The protected text encoder, for every node that encodes a prompt."
                )
            ],
            hidden=[io.Hidden.extra_pnginfo],
        )

    @classmethod
    @checked("prefix")
    def execute(
        cls, clip: Any, prefix: str | None = None, strength: float = 1.0, learned_prefix: Prefix | None = None
    ) -> io.NodeOutput:
        path = None if learned_prefix is not None else find_file(prefix)
        chosen = learned_prefix if path is None else load_prefix(path)
        workflow = (cls.hidden.extra_pnginfo or {}).get("workflow")
        protected = protect(clip, chosen, strength, told=said_of_prompts(workflow))
        require_family(chosen.record, tokenized_keys(clip))
        said = ["Not protected: strength is 0."]
        if strength:
            usual = usual_layers(usual_readings(text_encoders(clip.cond_stage_model)))
            said = [f"Protected with {chosen.length} vectors. {layers_note(chosen.record, usual)}"]
        if path is not None and str(prefix).endswith(NEWEST):
            said[0] += f" The newest is '{path.name}'."
        notes = (checkpoint_note(chosen.record, encoder_fingerprint(clip)), read_beside(clip))
        said += [note for note in notes if note]
        if is_protected(clip):
            said.append(REPLACED)
            logging.warning("Anonymize Faces: %s", REPLACED)
        return io.NodeOutput(protected, ui=tell("\n".join(said)))


NODES = [AnonymizeFaces]
