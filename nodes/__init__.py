"""Without this package ComfyUI would show nothing: the nodes, thin skins over the rooms beside it."""

from __future__ import annotations


def node_classes() -> list[type]:
    """Every node, in the order of the menu. Imports the host's API, so call it inside the host only."""
    from . import anonymize, demo, evaluate, files, identities, measure, train

    rooms = (anonymize, identities, train, files, measure, evaluate, demo)
    return [node for room in rooms for node in room.NODES]
