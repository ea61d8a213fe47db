"""Makes requests of Automatic1111 and Forge, with the panel's values."""

from __future__ import annotations

from typing import Any

ON = (True, "people.safetensors", 1.0)


OTHERS = (True, "others.safetensors", 1.0)


OFF = (False, "people.safetensors", 1.0)


PROMPT = "a portrait of Ada"


def picture(processed: Any) -> Any:
    """The last conditioning that the picture was drawn with."""
    return processed.images[0][0][0][-1][-1][1]
