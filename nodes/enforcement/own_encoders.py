"""Lists the nodes of this host that may draw text which went through no CLIP of the workflow.

When a workflow counts as protected, for whoever looks at the graph alone (the browser does; a server that enforces
looks at what really comes, see `rewriting`):

1. Every CLIP input of every node that encodes prompts is followed upwards through *all* inputs of what it comes from
   that carry, or could carry, a CLIP (`CLIP`, `*`, reroutes, both sides of a switch, into and out of subgraphs). It is
   protected if each way up meets an active Anonymize Faces of a strength above 0. One plain way is enough for "not
   protected"; a way that cannot be followed is told as "cannot be seen", never as protected.
2. No active node is in `own_encoders` without any of the inputs given there connected: it makes conditioning or
   pictures of text by itself, whatever else is protected. It is told by name.
3. No active node is in `services`: it sends the prompt elsewhere. It is told by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .rewriting import FOREIGN, NO_TEXT, PLAIN, SERVICE, TEXTUAL, Kind

DRAWN = frozenset({"IMAGE", "LATENT", "VIDEO", "CONDITIONING"})


def own_encoders(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """JSON: classes of nodes, by what makes them worth a warning; see docs/routes.md.

    Args:
        kinds: what is known of every class that the host has.
    """
    return {
        "own_encoders": {
            name: sorted(kind.sources) for name, kind in sorted(kinds.items()) if _may_read_text_itself(name, kind)
        },
        "services": sorted(name for name, kind in kinds.items() if kind.origin == SERVICE),
    }


def host_kinds() -> dict[str, Kind]:
    """What is known of every class of nodes that the host has; those that cannot say are left out."""
    import nodes

    from .enforce import kind_of

    kinds = {}
    for name in list(nodes.NODE_CLASS_MAPPINGS):
        try:
            kinds[name] = kind_of(name)
        except Exception:  # Another extension's class; the host leaves it out as well.
            continue
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _may_read_text_itself(name: str, kind: Kind) -> bool:
    """Whether a node makes conditioning, pictures or a bundle of unknown things without a CLIP that it has to be given.

    The host's own nodes do so only by putting out conditioning that they load.
    """
    if kind.origin == SERVICE or name in NO_TEXT:
        return False
    outputs = {part for output in kind.outputs for part in output.split(",")}
    if kind.origin != FOREIGN:
        return "CONDITIONING" in outputs and not kind.sources
    if "CONDITIONING" in outputs:
        return kind.needs_no_source
    return kind.needs_no_source and bool(kind.texts) and bool(outputs & DRAWN or outputs - PLAIN - TEXTUAL)
