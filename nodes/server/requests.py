"""Checks requests to the server's routes, and tells refusals.

A refusal is `{"error": sentence}` with a status of its own kind.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...prefix import AnonymizationError, PrefixFileExistsError, PrefixFileMissingError, PrefixNameError

if TYPE_CHECKING:
    from aiohttp import web

    Handler = Callable[[web.Request], Awaitable[web.Response]]

MAX_JSON_BYTES = 2**16
MAX_QUERY_CHARACTERS = 1000

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Of every answer: nobody between here and the browser keeps it, and it is nothing but what it is called."""

JSON = "application/json"
OCTETS = "application/octet-stream"
_STATUSES: tuple[tuple[type[AnonymizationError], int], ...] = (
    (PrefixNameError, 400),
    (PrefixFileMissingError, 404),
    (PrefixFileExistsError, 409),
    (AnonymizationError, 422),
)


class BadRequestError(AnonymizationError):
    """A request that is not what docs/routes.md asks for."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def answering(handler: Handler, besides: Mapping[str, Any] = MappingProxyType({})) -> Handler:
    """The handler, with its errors told as JSON; refusals hold what is given besides."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except BadRequestError as refusal:
            return json_answer({**besides, "error": str(refusal)}, refusal.status)
        except AnonymizationError as error:
            status = next(status for kind, status in _STATUSES if isinstance(error, kind))
            return json_answer({"error": str(error)}, status)

    return answer


def json_answer(answer: dict[str, Any], status: int = 200) -> web.Response:
    """An answer of JSON."""
    from aiohttp import web

    return web.json_response(answer, status=status, headers=HEADERS)


def query_of(request: web.Request, key: str, needed: bool = True) -> str:
    """What the address says after a key."""
    value = request.query.get(key, "")
    if len(value) > MAX_QUERY_CHARACTERS or (needed and not value):
        raise BadRequestError(400, f"Give '{key}' in the address, of at most {MAX_QUERY_CHARACTERS} characters.")
    return value


async def bytes_of(request: web.Request, content_type: str, most: int) -> bytes:
    """What was sent, unless it is of another type or more than `most` bytes."""
    from aiohttp import ClientError, http_exceptions, web

    # To the host's library, a request that names no type has octets; pages of other sites can send such ones.
    if not request.headers.get("Content-Type") or request.content_type != content_type:
        raise BadRequestError(415, f"Send it with the content type {content_type}.")
    data = bytearray()
    try:
        async for chunk in request.content.iter_any():
            data += chunk
            if len(data) > most:
                raise BadRequestError(413, f"That is more than {most} bytes.")
    except (ClientError, http_exceptions.HttpProcessingError, web.RequestPayloadError) as error:
        raise BadRequestError(400, "The body is not as its headers say.") from error
    return bytes(data)


async def table_of(request: web.Request) -> dict[str, Any]:
    """The table of names and values that was sent as JSON."""
    data = await bytes_of(request, JSON, MAX_JSON_BYTES)
    try:
        table = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(400, "The body is not JSON.") from error
    if not isinstance(table, dict):
        raise BadRequestError(400, "Send a JSON table of names and values.")
    return table


def text_of(table: dict[str, Any], key: str) -> str:
    """What a table that was sent says of a key."""
    value = table.get(key)
    if not isinstance(value, str):
        raise BadRequestError(400, f"Give '{key}', as text.")
    return value
