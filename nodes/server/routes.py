"""Answers the server's routes: looks after prefix files, and ends a run early.

They are described, with their answers, in docs/routes.md. All lie under /anonymize_faces/ and speak JSON; every refusal
is `{"error": sentence}` with a status of its own kind. The work is done in `prefix.files.library`, off the server's
thread.

Whether a request comes from a page of this server is checked by the host before it comes here, as for its own routes.
What changes anything must besides have a content type that no page of another site can send without asking first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...prefix.files import library
from ...prefix.files.storage import MAX_FILE_BYTES
from ...prefix.provenance import family_title
from ..enforcement.guards import Guarding
from .current_run import RUNNING
from .requests import HEADERS, OCTETS, BadRequestError, answering, bytes_of, json_answer, query_of, table_of, text_of
from .training_routes import register_training_routes

if TYPE_CHECKING:
    from aiohttp import web

ROOT = "/anonymize_faces"


def register_routes() -> None:
    """Adds the routes to the host's server, if this process has one. Call once, at the entry point."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    for method, path, handler in (
        ("GET", "/prefixes", _list),
        ("GET", "/prefixes/details", _details),
        ("GET", "/prefixes/export", _export),
        ("GET", "/prefixes/picture", _picture),
        ("POST", "/prefixes/import", _import),
        ("POST", "/prefixes/rename", _rename),
        ("POST", "/prefixes/delete", _delete),
        ("GET", "/enforcement", _enforced),
        ("GET", "/own_encoders", _own_encoders),
        ("GET", "/checkpoints/family", _checkpoint_family),
        ("POST", "/stop", _stop),
    ):
        server.routes.route(method, ROOT + path)(answering(handler, {"stopping": False} if handler is _stop else {}))
    register_training_routes(server)


async def _list(request: web.Request) -> web.Response:
    family = query_of(request, "family", needed=False)

    def summaries() -> list[dict[str, Any]]:
        return [entry.summary(family) for entry in library.entries(_folders())]

    return json_answer({"prefixes": await asyncio.to_thread(summaries)})


async def _details(request: web.Request) -> web.Response:
    name, family = query_of(request, "name"), query_of(request, "family", needed=False)

    def found() -> dict[str, Any]:
        folders = _folders()
        return library.entry(folders, library.newest(folders, name)).details(family)

    return json_answer(await asyncio.to_thread(found))


async def _export(request: web.Request) -> web.Response:
    from aiohttp import web

    name = query_of(request, "name")
    data = await asyncio.to_thread(library.content, _folders(), name)
    file_name = quote(name.replace("\\", "/").rsplit("/", 1)[-1], safe="")
    headers = {**HEADERS, "Content-Disposition": f"attachment; filename*=UTF-8''{file_name}"}
    return web.Response(body=data, content_type=OCTETS, headers=headers)


async def _picture(request: web.Request) -> web.Response:
    from aiohttp import web

    data = await asyncio.to_thread(library.picture, _folders(), query_of(request, "name"))
    return web.Response(body=data, content_type="image/jpeg", headers=HEADERS)


async def _import(request: web.Request) -> web.Response:
    name = query_of(request, "name")
    _require_not_enforced(name)
    data = await bytes_of(request, OCTETS, MAX_FILE_BYTES)
    entry = await asyncio.to_thread(library.add, _folders(), name, data)
    return json_answer(entry.details())


async def _rename(request: web.Request) -> web.Response:
    body = await table_of(request)
    name, new_name = text_of(body, "name"), text_of(body, "to")
    _require_not_enforced(name, new_name)
    entry = await asyncio.to_thread(library.rename, _folders(), name, new_name)
    return json_answer(entry.details())


async def _delete(request: web.Request) -> web.Response:
    name = text_of(await table_of(request), "name")
    _require_not_enforced(name)
    await asyncio.to_thread(library.delete, _folders(), name)
    return json_answer({"deleted": name})


async def _enforced(request: web.Request) -> web.Response:
    found = Guarding.enforcement
    return json_answer(
        {
            "enforced": found is not None,
            "prefix": found.name if found else None,
            "fault": found.fault if found else None,
        }
    )


async def _own_encoders(request: web.Request) -> web.Response:
    from ..enforcement.own_encoders import host_kinds, own_encoders

    return json_answer(own_encoders(host_kinds()))


async def _checkpoint_family(request: web.Request) -> web.Response:
    from .checkpoints import checkpoint_family

    return json_answer({"family": family_title(await asyncio.to_thread(checkpoint_family, query_of(request, "name")))})


async def _stop(request: web.Request) -> web.Response:
    prompt_id = (await table_of(request)).get("prompt_id")
    if not (prompt_id is None or isinstance(prompt_id, str)):
        raise BadRequestError(400, 'Send {} or {"prompt_id": "…"}.')
    if not RUNNING.ask_to_stop(prompt_id):
        raise BadRequestError(409, "Nothing is being learned that could be kept: to break off the drawing, use Cancel.")
    return json_answer({"stopping": True})


def _require_not_enforced(name: str, new_name: str | None = None) -> None:
    """A server's own prefix is changed by whoever runs it, not by those it protects others from.

    Args:
        name: of the file that is to be changed, or made.
        new_name: that it is to get.
    """
    from ..shared.folder import require_no_embeddings_in

    enforcement = Guarding.enforcement
    if enforcement is None:
        return
    names = [name] if new_name is None else [name, new_name]
    if any(map(enforcement.names, names)) or any(map(enforcement.is_at, library.places(_folders(), name))):
        raise BadRequestError(
            409, "This server anonymizes every prompt with that prefix: only its operator can change it."
        )
    for folder in _folders():
        require_no_embeddings_in(folder)


def _folders() -> list[Any]:
    from ..shared.folder import prefix_folders

    return prefix_folders()
