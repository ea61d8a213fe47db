"""Makes objects that run a command when they are unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Malice:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)
