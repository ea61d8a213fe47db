"""Defines the node Identity List."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..prefix.errors import IdentityError
from ..trainer.data.identities import EXAMPLE, parse_identities
from .inputs import checked
from .interface import IdentitiesSocket


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
        """Reads the list."""
        return io.NodeOutput(parse_identities(text))


NODES = [IdentityList]
