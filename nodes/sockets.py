"""Without this module the nodes would not agree on the types of their sockets."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

PrefixSocket = io.Custom("ANONYMIZATION_PREFIX")
"""Carries a `prefix.Prefix`."""

IdentitiesSocket = io.Custom("IDENTITIES")
"""Carries a tuple of `trainer.identities.Identity`."""
