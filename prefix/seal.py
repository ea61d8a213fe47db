"""Without this module a file or a figure that was changed could not be told from one that was not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def seal(vectors: Mapping[str, Tensor], fields: Mapping[str, Any]) -> str:
    """A digest of vectors, float32 on the CPU by encoder key, and of JSON values: 64 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for key in sorted(vectors):
        digest.update(f"{key}{tuple(vectors[key].shape)}".encode())
        digest.update(vectors[key].numpy().astype("<f4").tobytes())
    return digest.hexdigest()
