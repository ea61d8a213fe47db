"""Without this module a page that is opened while a run goes on would know nothing of it: the routes to follow one.

    GET  /anonymize_faces/training                  the run that goes on, or the last one
    GET  /anonymize_faces/training/picture          the last people that were drawn in it, without and with the prefix
    POST /anonymize_faces/training/watch            Content-Type: application/json    {"client_id": "…"}
    POST /anonymize_faces/training/leave            likewise

Whoever watches is sent what changes over the host's websocket, as events `anonymize_faces.training`, at most four a
second, for `feed.LEASE_SECONDS` from the last request to watch. The first route and *watch* answer, and events carry

    {"version": 17, "run": null or {
        "prompt_id": "…", "node_id": "3", "workflow_id": "…",    whose it is; null where it is not known
        "state": "preparing", "drawing", "reading" (the text encoder teaches), "learning",
                 "finished", "stopped", "cancelled" or "failed",
        "message": "…",                                          why it ended, a sentence; may be empty
        "done": 12, "of": 150,                                   pictures, warm-up steps or steps, as the state tells
        "seconds_left": 31.5 or null,                            of what it is at
        "curve": {"steps": […], "identities": […], "general": […]},  mean losses up to these steps; null where none
        "score": null or {"step": 60, "identity_signal_left": 0.12, "general_prompts_moved": 0.03},
        "picture": null or {"number": 2, "people": ["…"], "held_out": true}}}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .feed import Feed
from .live import TELEMETRY

if TYPE_CHECKING:
    from aiohttp import web

PATH = "/anonymize_faces/training"
EVENT = "anonymize_faces.training"
LONGEST_ID = 128
MOST_BYTES = 2**16


def register_training_routes(server: Any) -> None:
    """Adds the routes to the host's server."""
    from aiohttp import web

    feed = Feed(TELEMETRY, lambda snapshot, client_id: server.send_sync(EVENT, snapshot, client_id))
    unstored = {"Cache-Control": "no-store"}

    @server.routes.get(PATH)
    async def training(request: web.Request) -> web.Response:
        return web.json_response(TELEMETRY.snapshot(), headers=unstored)

    @server.routes.get(f"{PATH}/picture")
    async def picture(request: web.Request) -> web.Response:
        newest = TELEMETRY.newest_picture
        if newest is None:
            return web.json_response({"error": "Nobody has been drawn yet."}, status=404, headers=unstored)
        return web.Response(body=newest.jpeg, content_type="image/jpeg", headers=unstored)

    @server.routes.post(f"{PATH}/watch")
    async def watch(request: web.Request) -> web.Response:
        client_id = await _client_id(request)
        return client_id if isinstance(client_id, web.Response) else web.json_response(feed.watch(client_id))

    @server.routes.post(f"{PATH}/leave")
    async def leave(request: web.Request) -> web.Response:
        client_id = await _client_id(request)
        if isinstance(client_id, web.Response):
            return client_id
        feed.leave(client_id)
        return web.json_response({})


async def _client_id(request: web.Request) -> str | web.Response:
    """Who asks, or the refusal of a request that does not say it soundly."""
    from aiohttp import web

    # A page of another site can post forms and plain text without asking, but not JSON.
    if request.content_type != "application/json":
        return web.json_response({"error": "Send JSON, with the content type application/json."}, status=415)
    if (request.content_length or 0) > MOST_BYTES:
        return web.json_response({"error": f"That is more than {MOST_BYTES} bytes."}, status=413)
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return web.json_response({"error": "The body is not JSON."}, status=400)
    client_id = body.get("client_id") if isinstance(body, dict) else None
    if not isinstance(client_id, str) or not 0 < len(client_id) <= LONGEST_ID:
        return web.json_response({"error": 'Send {"client_id": "…"}, your id on the websocket.'}, status=400)
    return client_id
