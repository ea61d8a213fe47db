"""Defines the node Identity List."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.v0_0_2 import io

from ..prefix.errors import IdentityError
from ..trainer.data.identities import EXAMPLE, Identity, parse_identities
from .shared.inputs import checked
from .shared.interface import IdentitiesSocket, tell

FEW = 20
"""People that a prefix should learn from at least."""

MOST_NAMED = 5
"""Names that a sentence lists."""


class IdentityList(io.ComfyNode):
    """Reads people and their looks from text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="IdentityList",
            display_name="Identity List",
            category="anonymize",
            description="The people that a prefix learns from (not a list of who is protected), one a line: a name the"
            " model knows, a colon, and the looks that may stay.",
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default=f"# Name: description of the looks\n{EXAMPLE}\n",
                    tooltip="One person a line, 'Name: description', or a name alone (then described as 'a person')."
                    " Lines that begin with # are notes. People of many looks make a prefix that works for others too.",
                )
            ],
            outputs=[
                IdentitiesSocket.Output(
                    display_name="identities", tooltip="The people, for Train Anonymization Prefix."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, text: Any = None) -> bool | str:
        """Refuses a list that cannot be read before anything runs; one that comes from a node is only known later."""
        if not isinstance(text, str):
            return True
        try:
            parse_identities(text)
        except IdentityError as error:
            return str(error)
        return True

    @classmethod
    @checked()
    def execute(cls, text: str) -> io.NodeOutput:
        """Reads the list, and says what would make a better one."""
        identities = parse_identities(text)
        return io.NodeOutput(identities, ui=tell("\n".join(advice(identities))))


def advice(identities: Sequence[Identity]) -> list[str]:
    """What there is to say of a list of people before anything is learned from it, sentences."""
    said = [f"{len(identities)} {'person' if len(identities) == 1 else 'people'}."]
    bare = [identity.name for identity in identities if not identity.described]
    if bare:
        names = ", ".join(bare[:MOST_NAMED]) + (", …" if len(bare) > MOST_NAMED else "")
        said.append(f"Without a description: {names}. Write the looks that may stay, else these change as well.")
    if len(identities) < FEW:
        said.append(f"Fewer than {FEW}: what is learned from few protects few others. Fifty of many looks do well.")
    return said


NODES = [IdentityList]
