"""Notes which files a run has written, so that the same run, broken off while it writes, may write them again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from ..prefix.files.storage import put_whole


class OwnFiles:
    """Files that one run has written or is about to write, by what they hold: whoever changed one since then owns it.

    Args:
        folder: where it is noted; it need not be there.
        run: tells the run from others, whose files count as somebody else's.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._path = folder / f"{run}.json"
        self._digests: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError):
            noted = json.loads(self._path.read_text(encoding="utf-8"))
            self._digests = {str(file): str(digest) for file, digest in noted.items()}

    def __contains__(self, file: Path) -> bool:
        digest = self._digests.get(str(file.resolve()))
        try:
            return digest is not None and digest == _digest(file.read_bytes())
        except OSError:
            return False

    def note(self, file: Path, data: bytes) -> None:
        """The run is about to write a file.

        Raises:
            OSError: that cannot be noted.
        """
        self._digests[str(file.resolve())] = _digest(data)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        put_whole(json.dumps(self._digests).encode(), self._path, overwrite=True)

    def forget(self) -> None:
        """The run is done."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
