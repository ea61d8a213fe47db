"""Answers the routes by which a page follows a run.

    GET  /anonymize_faces/training                  the run that goes on, or the last one
    GET  /anonymize_faces/training/picture          the last people that were drawn in it, without and with the prefix
    POST /anonymize_faces/training/watch            Content-Type: application/json    {"client_id": "…"}
    POST /anonymize_faces/training/leave            likewise

Whoever watches is sent what changes over the host's websocket, as events `anonymize_faces.training`, at most four a
second, for `feed.LEASE_SECONDS` from the last request to watch. The first route and *watch* answer, and events carry

    {"server": "…", "version": 17,                               of this process, and growing with all that happens
     "run": null or {
        "prompt_id": "…", "node_id": "3", "workflow_id": "…",    whose it is; null where it is not known
        "kind": "prefix" or "fine-tuning",                       what it learns
        "state": "preparing", "drawing", "text_warm_up" (the text encoder teaches), "encoding_prompts", "learning",
                 "face_region" (where faces are), "finished", "stopped", "cancelled" or "failed",
        "message": "…",                                          why it ended, a sentence; may be empty
        "notes": ["…"],                                          what is told of it meanwhile, sentences
        "done": 12, "of": 150,                                   pictures, steps or prompts, as the state tells
        "seconds_left": 31.5 or null,                            of the whole run, once there is a plan
        "plan": null or {"people": 48, "pictures": 222, "prompts": 900, "evaluations": 12000, "seconds": 800.0,
                 "kept_bytes": 5368709120, "disk_bytes": 3145728},  what the run takes, see trainer/plan.py; of
                                                                 fine-tuning what finetuning/progress.py has
        "curve": {"steps": […], "identities": […], "general": […]},  mean losses up to these steps, null where none; of
                                                                 fine-tuning "steps" and "loss"
        "scores": [[60, 0.12, 0.03], …],                         step and figures of each validation
        "score": null or {"step": 60, "identity_signal_left": 0.12, "general_prompts_moved": 0.03},
        "picture": null or {"number": 2, "people": ["…"], "held_out": true}}}
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from .current_run import TELEMETRY
from .feed import Feed
from .requests import HEADERS, BadRequestError, answering, json_answer, table_of

if TYPE_CHECKING:
    from aiohttp import web

PATH = "/anonymize_faces/training"
EVENT = "anonymize_faces.training"
LONGEST_ID = 128

OF_THIS_PROCESS = {"server": uuid.uuid4().hex}
"""By which a page knows that the story begins anew: versions of another process say nothing of this one's."""


def register_training_routes(server: Any) -> None:
    """Adds the routes to the host's server."""
    from aiohttp import web

    feed = Feed(TELEMETRY, lambda told, client_id: server.send_sync(EVENT, {**told, **OF_THIS_PROCESS}, client_id))

    @server.routes.get(PATH)
    @answering
    async def training(request: web.Request) -> web.Response:
        return json_answer({**TELEMETRY.snapshot(), **OF_THIS_PROCESS})

    @server.routes.get(f"{PATH}/picture")
    @answering
    async def picture(request: web.Request) -> web.Response:
        newest = TELEMETRY.newest_picture
        if newest is None:
            raise BadRequestError(404, "Nobody has been drawn yet.")
        return web.Response(body=newest.jpeg, content_type="image/jpeg", headers=HEADERS)

    @server.routes.post(f"{PATH}/watch")
    @answering
    async def watch(request: web.Request) -> web.Response:
        return json_answer({**feed.watch(await _client_id(request)), **OF_THIS_PROCESS})

    @server.routes.post(f"{PATH}/leave")
    @answering
    async def leave(request: web.Request) -> web.Response:
        feed.leave(await _client_id(request))
        return json_answer({})


async def _client_id(request: web.Request) -> str:
    client_id = (await table_of(request)).get("client_id")
    if not isinstance(client_id, str) or not 0 < len(client_id) <= LONGEST_ID:
        raise BadRequestError(400, 'Send {"client_id": "…"}, your id on the websocket.')
    return client_id
