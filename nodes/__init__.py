"""Lists the nodes of the extension."""

from __future__ import annotations


def node_classes(enforced: bool = False) -> list[type]:
    """Every node, in the order of the menu, with those that guard prompts on a server that enforces.

    Imports the host's API, so call it inside the host only.
    """
    from . import (
        anonymize,
        compare,
        demo,
        describe,
        evaluate,
        experts,
        face_region,
        files,
        finetune,
        identities,
        measure,
        photos,
        train,
    )

    modules = [anonymize, face_region, identities, describe, finetune, train]
    modules += [files, compare, measure, evaluate, photos, experts, demo]
    if enforced:
        from .enforcement import guards

        modules.append(guards)
    return [node for module in modules for node in module.NODES]
