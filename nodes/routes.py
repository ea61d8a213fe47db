"""Without this module the browser could not look after prefix files or end a run early: the server's routes.

They are described, with their answers, in docs/routes.md. All lie under /anonymize_faces/ and speak JSON; every refusal
is `{"error": sentence}` with a status of its own kind. The work is done in `prefix.library`, off the server's thread.

Whether a request comes from a page of this server is checked by the host before it comes here, as for its own routes.
What changes anything must besides have a content type that no page of another site can send without asking first.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..prefix import (
    AnonymizationError,
    PrefixFileExistsError,
    PrefixFileMissingError,
    PrefixNameError,
    library,
)
from ..prefix.enforced_setting import Enforcement
from ..prefix.provenance import family_title
from ..prefix.storage import MAX_FILE_BYTES
from .running import RUNNING
from .training_routes import register_training_routes

if TYPE_CHECKING:
    from aiohttp import web

    Handler = Callable[[web.Request], Awaitable[web.Response]]

ROOT = "/anonymize_faces"
MAX_JSON_BYTES = 2**16
MAX_QUERY_CHARACTERS = 1000

_JSON = "application/json"
_BYTES = "application/octet-stream"
_STATUSES: tuple[tuple[type[AnonymizationError], int], ...] = (
    (PrefixNameError, 400),
    (PrefixFileMissingError, 404),
    (PrefixFileExistsError, 409),
    (AnonymizationError, 422),
)


class _Refusal(Exception):
    """A request that is not what docs/routes.md asks for."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


_enforcement: Enforcement | None = None


def register_routes(enforcement: Enforcement | None = None) -> None:
    """Adds the routes to the host's server, if this process has one. Call once, at the entry point."""
    global _enforcement
    _enforcement = enforcement
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    for method, path, handler in (
        ("GET", "/prefixes", _list),
        ("GET", "/prefixes/details", _details),
        ("GET", "/prefixes/export", _export),
        ("POST", "/prefixes/import", _import),
        ("POST", "/prefixes/rename", _rename),
        ("POST", "/prefixes/delete", _delete),
        ("GET", "/enforcement", _enforced),
        ("GET", "/checkpoints/family", _checkpoint_family),
        ("POST", "/stop", _stop),
    ):
        server.routes.route(method, ROOT + path)(_answering(handler))
    register_training_routes(server)


async def _list(request: web.Request) -> web.Response:
    family = _query(request, "family", needed=False)

    def summaries() -> list[dict[str, Any]]:
        return [entry.summary(family) for entry in library.entries(_folders())]

    return _json({"prefixes": await asyncio.to_thread(summaries)})


async def _details(request: web.Request) -> web.Response:
    name, family = _query(request, "name"), _query(request, "family", needed=False)
    entry = await asyncio.to_thread(library.entry, _folders(), name)
    return _json(entry.details(family))


async def _export(request: web.Request) -> web.Response:
    from aiohttp import web

    name = _query(request, "name")
    data = await asyncio.to_thread(library.content, _folders(), name)
    file_name = quote(name.replace("\\", "/").rsplit("/", 1)[-1], safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{file_name}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return web.Response(body=data, content_type=_BYTES, headers=headers)


async def _import(request: web.Request) -> web.Response:
    name = _query(request, "name")
    _require_not_enforced(name)
    data = await _body(request, _BYTES, MAX_FILE_BYTES)
    entry = await asyncio.to_thread(library.add, _folders(), name, data)
    return _json(entry.details())


async def _rename(request: web.Request) -> web.Response:
    body = await _table(request)
    name, new_name = _text(body, "name"), _text(body, "to")
    _require_not_enforced(name, new_name)
    entry = await asyncio.to_thread(library.rename, _folders(), name, new_name)
    return _json(entry.details())


async def _delete(request: web.Request) -> web.Response:
    name = _text(await _table(request), "name")
    _require_not_enforced(name)
    await asyncio.to_thread(library.delete, _folders(), name)
    return _json({"deleted": name})


async def _enforced(request: web.Request) -> web.Response:
    found = _enforcement
    return _json(
        {
            "enforced": found is not None,
            "prefix": found.name if found else None,
            "fault": found.fault if found else None,
        }
    )


async def _checkpoint_family(request: web.Request) -> web.Response:
    from .checkpoints import checkpoint_family

    return _json({"family": family_title(await asyncio.to_thread(checkpoint_family, _query(request, "name")))})


async def _stop(request: web.Request) -> web.Response:
    prompt_id = (await _table(request)).get("prompt_id")
    if not (prompt_id is None or isinstance(prompt_id, str)):
        raise _Refusal(400, 'Send {} or {"prompt_id": "…"}.')
    if not RUNNING.ask_to_stop(prompt_id):
        raise _Refusal(409, "No prefix is being learned that could be kept: to break off the drawing, use Cancel.")
    return _json({"stopping": True})


def _answering(handler: Handler) -> Handler:
    """The handler, with its errors told as JSON."""
    besides = {"stopping": False} if handler is _stop else {}

    @wraps(handler)
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except _Refusal as refusal:
            return _json({**besides, "error": str(refusal)}, refusal.status)
        except AnonymizationError as error:
            return _json({"error": str(error)}, next(status for kind, status in _STATUSES if isinstance(error, kind)))

    return answer


def _json(answer: dict[str, Any], status: int = 200) -> web.Response:
    from aiohttp import web

    return web.json_response(answer, status=status, headers={"Cache-Control": "no-store"})


def _query(request: web.Request, key: str, needed: bool = True) -> str:
    value = request.query.get(key, "")
    if len(value) > MAX_QUERY_CHARACTERS or (needed and not value):
        raise _Refusal(400, f"Give '{key}' in the address, of at most {MAX_QUERY_CHARACTERS} characters.")
    return value


async def _body(request: web.Request, content_type: str, most: int) -> bytes:
    """What was sent, unless it is of another type or more than `most` bytes."""
    from aiohttp import ClientError, http_exceptions, web

    # To the host's library, a request that names no type has octets; pages of other sites can send such ones.
    if not request.headers.get("Content-Type") or request.content_type != content_type:
        raise _Refusal(415, f"Send it with the content type {content_type}.")
    data = bytearray()
    try:
        async for chunk in request.content.iter_any():
            data += chunk
            if len(data) > most:
                raise _Refusal(413, f"That is more than {most} bytes.")
    except (ClientError, http_exceptions.HttpProcessingError, web.RequestPayloadError) as error:
        raise _Refusal(400, "The body is not as its headers say.") from error
    return bytes(data)


async def _table(request: web.Request) -> dict[str, Any]:
    data = await _body(request, _JSON, MAX_JSON_BYTES)
    try:
        table = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Refusal(400, "The body is not JSON.") from error
    if not isinstance(table, dict):
        raise _Refusal(400, "Send a JSON table of names and values.")
    return table


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise _Refusal(400, f"Give '{key}', as text.")
    return value


def _require_not_enforced(*names: str) -> None:
    """A server's own prefix is changed by whoever runs it, not by those it protects others from."""

    if _enforcement is not None and any(map(_enforcement.names, names)):
        raise _Refusal(409, "This server anonymizes every prompt with that prefix: only its operator can change it.")


def _folders() -> list[Any]:
    from .folder import prefix_folders

    return prefix_folders()
