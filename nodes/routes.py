"""Without this module nobody could end a run early and keep what it learned: the server's route for that.

    POST /anonymize_faces/stop      Content-Type: application/json      {} or {"prompt_id": "…"}

ends the run that is learning, which then hands on the best prefix so far, as if it were done. With a prompt id, only if
it belongs to that prompt. Answers are JSON:

    200 {"stopping": true}
    409 {"stopping": false, "error": "…"}    nothing is learning: no run, another prompt's, or still drawing
    400, 415 {"stopping": false, "error": "…"}    the request is not what is written above
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .running import RUNNING
from .training_routes import register_training_routes

if TYPE_CHECKING:
    from aiohttp import web

PATH = "/anonymize_faces/stop"


def register_routes() -> None:
    """Adds the routes to the host's server, if this process has one. Call once, at the entry point."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.post(PATH)(stop)
        register_training_routes(server)


async def stop(request: web.Request) -> web.Response:
    """The route; see the module."""
    from aiohttp import web

    def refuse(status: int, error: str) -> web.Response:
        return web.json_response({"stopping": False, "error": error}, status=status)

    # A page of another site can post forms and plain text without asking, but not JSON.
    if request.content_type != "application/json":
        return refuse(415, "Send JSON, with the content type application/json.")
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return refuse(400, "The body is not JSON.")
    prompt_id = body.get("prompt_id") if isinstance(body, dict) else body
    if not isinstance(body, dict) or not (prompt_id is None or isinstance(prompt_id, str)):
        return refuse(400, 'Send {} or {"prompt_id": "…"}.')
    if not RUNNING.ask_to_stop(prompt_id):
        return refuse(409, "No prefix is being learned that could be kept: to break off the drawing, use Cancel.")
    return web.json_response({"stopping": True})
