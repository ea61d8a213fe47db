"""Without this package ComfyUI would show nothing: the nodes, thin skins over the rooms beside it."""

from __future__ import annotations


def node_classes() -> list[type]:
    """Every node, in the order of the menu. Imports the host's API, so call it inside the host only."""
    from . import anonymize, demo, files, identities, measure, train

    return [*anonymize.NODES, *identities.NODES, *train.NODES, *files.NODES, *measure.NODES, *demo.NODES]
