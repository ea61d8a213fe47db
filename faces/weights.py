"""Finds the weights of a recognizer, or fetches them.

A download goes to `NAME.part`, goes on where it was broken off, and gets its name only after it was checked. What it is
checked against is the digest in the `Weights` value; where its publisher gives none, the one in a file `NAME.sha256`
beside it (as `sha256sum` writes it), which is made at the first download and holds for every later use.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..prefix import WeightsError
from .recognizer import Report

MAX_WEIGHTS_BYTES = 2**29
CHUNK_BYTES = 2**18
TIMEOUT_SECONDS = 30.0

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Weights:
    """A file of weights: its name, where it is released, its SHA-256 in hex (None: its publisher gives none)."""

    name: str
    url: str
    sha256: str | None


def read_weights(
    weights: Weights, folders: Sequence[Path], parse: Callable[[bytes], Parsed], report: Report
) -> tuple[Parsed, str]:
    """What `parse` makes of the file in the first folder that has it, else of a download into the first; its SHA-256.

    Args:
        parse: makes sense of the file's bytes; raises `WeightsError` if there is none. A download is kept only then.
        report: called with received and all bytes during a download.

    Raises:
        WeightsError: nothing there and nothing to be had, a folder that cannot be written to, another digest than the
            one asked for, or a file that `parse` refuses. No half or wrong file gets the name; what was received of a
            broken download stays for the next attempt.
    """
    for folder in folders:
        path = folder / weights.name
        if path.is_file():
            return _parse_file(weights, path, parse)
    _download(weights, folders[0], report)
    part = folders[0] / _part(weights)
    try:
        data = _read(part)
        digest = _require_digest(weights, folders[0], data, "What was downloaded")
        parsed = parse(data)
    except WeightsError:
        _discard(part)
        raise
    with _saving(weights, folders[0]):
        if weights.sha256 is None:
            _note(folders[0], weights).write_text(f"{digest}  {weights.name}\n", encoding="ascii")
        part.replace(folders[0] / weights.name)
    _discard(part)
    return parsed, digest


def _parse_file(weights: Weights, path: Path, parse: Callable[[bytes], Parsed]) -> tuple[Parsed, str]:
    data = _read(path)
    digest = _require_digest(weights, path.parent, data, f"'{path}'")
    try:
        return parse(data), digest
    except WeightsError as error:
        raise WeightsError(f"'{path}' cannot be used: {error} Remove it, and it is downloaded anew.") from error


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_WEIGHTS_BYTES:
            raise WeightsError(f"'{path}' is far too large to be what it should be: remove it.")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read ({error.strerror or error}): see to its permissions.") from error


def _require_digest(weights: Weights, folder: Path, data: bytes, what: str) -> str:
    """The data's SHA-256; raises if another one was asked for."""
    digest = hashlib.sha256(data).hexdigest()
    note, asked = _note(folder, weights), weights.sha256
    if asked is None:
        with contextlib.suppress(OSError):
            asked = next(iter(note.read_text(encoding="ascii", errors="replace").split()), None)
    if asked is not None and asked.lower() != digest:
        blame = "" if weights.sha256 else f" If you trust it more than '{note}', which asks for the other, remove that."
        raise WeightsError(
            f"{what} is damaged, or is another file than {weights.name}: its SHA-256 is {digest}, not {asked[:64]}."
            f" Remove the file if it is there and queue again, or get it from {weights.url} yourself.{blame}"
        )
    return digest


def _download(weights: Weights, folder: Path, report: Report) -> None:
    """Completes `NAME.part`."""
    part = folder / _part(weights)
    with _saving(weights, folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _fetching(weights, folder):
        begun, tag = _begun(part)
        try:
            response = _open(weights.url, begun, tag)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # There is nothing after what we have: it belongs to another file.
                raise
            begun = 0
            response = _open(weights.url, 0, "")
    with response:
        if response.status != 206 or not _continues(response, begun):
            begun = 0
        length = response.headers.get("Content-Length", "")
        total = begun + int(length) if length.isdecimal() else 0
        with _saving(weights, folder):
            _tag(part).write_text(response.headers.get("ETag", ""), encoding="utf-8")
            file = part.open("ab" if begun else "wb")
        with file:
            received = begun
            for chunk in _chunks(response, weights, folder):
                received += len(chunk)
                if received > min(total or MAX_WEIGHTS_BYTES, MAX_WEIGHTS_BYTES):
                    _discard(part)
                    raise _unavailable(weights, folder, "there comes more than it can be")
                with _saving(weights, folder, part):
                    file.write(chunk)
                report(received, total)
            with _saving(weights, folder, part):
                file.flush()
        if received < total:
            raise _unavailable(weights, folder, f"the connection broke after {received} of {total} bytes")


def _begun(part: Path) -> tuple[int, str]:
    """How many bytes were received before, and the tag of the file that they belong to; without a tag, none."""
    try:
        tag = _tag(part).read_text(encoding="utf-8").strip()
        return (part.stat().st_size, tag) if tag else (0, "")
    except (OSError, ValueError):
        return 0, ""


def _open(url: str, begun: int, tag: str) -> http.client.HTTPResponse:
    headers = {"User-Agent": "anonymize-faces", "Accept-Encoding": "identity"}
    if begun:
        headers |= {"Range": f"bytes={begun}-", "If-Range": tag}
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    if url.startswith("https:") and not response.geturl().startswith("https:"):
        response.close()
        raise urllib.error.URLError("it leads to an address that is not https")
    return response


def _continues(response: http.client.HTTPResponse, begun: int) -> bool:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == begun


def _chunks(response: http.client.HTTPResponse, weights: Weights, folder: Path) -> Iterator[bytes]:
    while True:
        with _fetching(weights, folder):
            chunk = response.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def _fetching(weights: Weights, folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise _unavailable(weights, folder, str(reason) or type(error).__name__) from error


@contextlib.contextmanager
def _saving(weights: Weights, folder: Path, part: Path | None = None) -> Iterator[None]:
    """Tells of a folder that cannot be written to; what was received goes, since it may be what fills the disk."""
    try:
        yield
    except OSError as error:
        if part is not None:
            _discard(part)
        raise WeightsError(
            f"{weights.name} could not be saved in '{folder}' ({error.strerror or error}): make it a folder that has"
            f" room and can be written to, or put the file from {weights.url} there yourself."
        ) from error


def _unavailable(weights: Weights, folder: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"The weights {weights.name} could not be downloaded ({reason.rstrip('.')}): queue again when there is"
        f" a network, or get {weights.url} in another way and put it into '{folder}' under the name {weights.name}."
    )


def _discard(part: Path) -> None:
    for path in (part, _tag(part)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _part(weights: Weights) -> str:
    return f"{weights.name}.part"


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}-tag")


def _note(folder: Path, weights: Weights) -> Path:
    return folder / f"{weights.name}.sha256"
