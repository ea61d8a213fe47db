"""Drives the frontend as a person uses it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.layout import BUILD, EXTENSION

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

SCREENSHOTS = BUILD / "screenshots"
PATIENCE = 120_000
"""Milliseconds that anything may take on a slow machine."""

LOADING = 2 * PATIENCE
"""The same of the page itself, with its hundreds of files."""

STEP = 6_000
"""Milliseconds after which one step of the search is begun again."""

READY = """() => {
    const { app, LiteGraph } = window;
    const { spinner, workflow } = (app?.vueAppReady && app.extensionManager) || { spinner: true };
    return !spinner && Boolean(workflow.activeWorkflow?.changeTracker?.activeState)
        && "AnonymizeFaces" in LiteGraph.registered_node_types && !document.getElementById("splash-loader");
}"""
"""Whether the page can be used, and has loaded the workflow that it begins with: later that would replace ours."""

TAB_BUTTON = ".anonymize-faces-tab-button, [data-testid=anonymize-faces-tab-button]"
"""Opens and closes the tab of prefixes, in older frontends and in newer ones."""

FIELD = "input[placeholder^='Search Nodes'], input[placeholder^='Add a node']"
"""Where a node is searched, in older frontends and in newer ones."""

CHOSEN = """title => {
    const id = document.activeElement?.getAttribute("aria-activedescendant");
    const one = id ? document.getElementById(id) : document.querySelector("#results-list [aria-selected=true]");
    return Boolean(one?.innerText.trim().startsWith(title));
}"""
"""Whether Enter would add the node: older frontends say which one it is at the field, newer ones in the list."""

TOAST = ".p-toast-message, [data-testid=toast]"
"""What the host says in passing, in older frontends and in newer ones."""

SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Locale": "en",
    "Comfy.Minimap.Visible": False,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.NodeSearchBoxImpl.FollowCursor": False,
}
"""Settings with which the frontend shows nothing that would lie over the canvas, and puts nodes where it is told to."""


class Workbench:
    """A page with the frontend of a running server, in a browser profile of its own.

    Attributes:
        page: Playwright's.
        complaints: errors and warnings that the browser tells of our files.
    """

    def __init__(self, browser: Browser, server: ComfyServer) -> None:
        self.server = server
        self.complaints: list[str] = []
        requests.post(f"{server.url}/settings", json=SETTINGS, timeout=60).raise_for_status()
        self._context = browser.new_context(viewport={"width": 1440, "height": 900})
        self._context.set_default_timeout(PATIENCE)
        self.page = self.tab()

    def tab(self) -> Page:
        """Another page of the same profile, loaded."""
        page = self._context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self._note_text(f"{error.message}\n{error.stack}"))
        page.goto(self.server.url, timeout=LOADING)
        self.ready(page)
        return page

    def ready(self, page: Page | None = None) -> None:
        """Waits until the frontend can be used."""
        (page or self.page).wait_for_function(READY, timeout=LOADING)

    def close(self) -> None:
        """Closes the profile with all its pages."""
        self._context.close()

    def clear(self) -> None:
        """Empties the canvas, takes away what was said, goes back to the middle, and draws nodes in the classic way."""
        self.page.evaluate("() => window.answer")  # A refusal may come with a dialog.
        self.page.keyboard.press("Escape")
        self.page.evaluate(
            """() => {
                const { graph, canvas } = window.app;
                graph.clear();
                canvas.ds.reset();
            }"""
        )
        self.hush()
        self.draw_nodes(vue=False)

    def hush(self) -> None:
        """Takes away what was said."""
        self.page.evaluate(
            """() => {
                const { toast } = window.app.extensionManager;
                (toast.removeAll ?? toast.dismissAll).call(toast);
            }"""
        )

    def told(self, text: str = "") -> Locator:
        """What the host says in passing and that has a text."""
        return self.page.locator(TOAST).filter(has_text=text)

    def draw_nodes(self, *, vue: bool) -> None:
        """Switches between the classic rendering of nodes and "Nodes 2.0"."""
        self.page.evaluate("vue => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', vue)", vue)

    def open(self, workflow: Mapping[str, Any], page: Page | None = None) -> None:
        """Loads a workflow, as dropping its file on the canvas does, once what was queued is answered.

        With the answer the host notes what nodes the workflow has: one left before has none of those that scripts made.
        """
        (page or self.page).evaluate(
            "async workflow => { await window.answer; await window.app.loadGraphData(workflow); }", dict(workflow)
        )

    def go_back_to(self, workflow: str) -> None:
        """Clicks on the tab of an open workflow until it is the active one: a page that is busy misses clicks."""
        deadline = time.monotonic() + PATIENCE / 1000
        active = "name => window.app.extensionManager.workflow.activeWorkflow?.filename === name"
        while time.monotonic() < deadline:
            self.page.get_by_text(workflow, exact=True).first.click()
            with contextlib.suppress(PlaywrightTimeout):
                self.page.wait_for_function(active, arg=workflow, timeout=STEP)
                return
        raise AssertionError(f"'{workflow}' could not be made active; see {self.picture('tabs')}.")

    def add_by_search(self, title: str) -> None:
        """Adds a node as a person does: double click, type, wait until it is the chosen one of the list, Enter."""
        count = "() => window.app.graph.nodes.length"
        before = self.page.evaluate(count)
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline:
            with contextlib.suppress(PlaywrightTimeout):
                self._search(title)
                self.page.wait_for_function(f"before => ({count})() > before", arg=before, timeout=STEP)
            # A field that is about to go takes text, and nothing comes of it.
            with contextlib.suppress(PlaywrightTimeout):
                self.page.locator(FIELD).wait_for(state="hidden", timeout=STEP)
            if self.page.evaluate(count) > before:
                return
            # Enter with nothing chosen leaves a field that takes no more text, and two clicks that come too far
            # apart open none.
            self.page.keyboard.press("Escape")
        raise AssertionError(f"'{title}' could not be added by search; see {self.picture('search')}.")

    def _search(self, title: str) -> None:
        field = self.page.locator(FIELD)
        if not field.is_visible():
            self.page.locator("#graph-canvas").dblclick(position={"x": 700, "y": 450}, timeout=STEP)
        field.fill(title, timeout=STEP)
        # The list without a filter may show the node as well, while nothing or another one is chosen.
        self.page.wait_for_function(CHOSEN, arg=title, timeout=STEP)
        self.page.keyboard.press("Enter")

    def nodes(self, kind: str) -> list[dict[str, Any]]:
        """The nodes of a type on the canvas, as the workflow file would have them."""
        nodes = self.page.evaluate("() => window.app.graph.serialize().nodes")
        return [node for node in nodes if node["type"] == kind]

    def previewed(self, node: str, text: str) -> str:
        """What one of the host's Preview as Text shows, once that has a text in it: a field, or rendered Markdown.

        The newest frontends keep what they render to themselves; then it is the text itself.
        """
        find = """([id, text]) => {
            const { widgets } = window.app.graph.getNodeById(id);
            const told = ({ element, value }) => element?.value || element?.innerText || String(value ?? "");
            const shown = widgets?.map(told);
            return shown?.find((one) => one.includes(text));
        }"""
        return str(self.page.wait_for_function(find, arg=[node, text]).json_value())

    def settle(self) -> None:
        """Waits until every node has the place and the size that it keeps."""
        self.page.evaluate(
            """async () => {
                const where = () => JSON.stringify(window.app.canvas.graph.nodes.map(({ id, pos, size }) => {
                    const drawn = document.querySelector(`[data-node-id="${id}"]`)?.getBoundingClientRect();
                    return [...pos, ...size, drawn?.width, drawn?.height].map(Math.round);
                }));
                let [before, times] = ["", 0];
                while (times < 10) {
                    await new Promise((done) => setTimeout(done, 50));
                    await new Promise(requestAnimationFrame);
                    times = where() === before ? times + 1 : 0;
                    before = where();
                }
            }"""
        )

    def overlaps(self) -> list[str]:
        """Pairs of nodes of the graph in sight, ends of a subgraph included, that lie on each other as drawn."""
        return self.page.evaluate(
            """() => {
                const { graph, ds } = window.app.canvas;
                const box = ({ id, pos, size, flags }) => {
                    const drawn = document.querySelector(`[data-node-id="${id}"]`)?.getBoundingClientRect();
                    const [width, height] = flags?.collapsed ? [size[0], 0] : size;
                    const right = pos[0] + Math.max(width, (drawn?.width ?? 0) / ds.scale);
                    const bottom = pos[1] + Math.max(height, (drawn?.height ?? 0) / ds.scale - 30);
                    return [pos[0], pos[1] - 30, right, bottom];
                };
                const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
                const all = [...graph.nodes, graph.inputNode, graph.outputNode].filter(Boolean);
                const name = (node) => `${node.title ?? "end"} (${node.id}) [${box(node).map(Math.round)}]`;
                return all.flatMap((one, index) => {
                    const met = all.slice(index + 1).filter((two) => meet(box(one), box(two)));
                    return met.map((two) => `${name(one)} on ${name(two)}`);
                });
            }"""
        )

    def look_at(self, kind: str) -> None:
        """Moves the canvas so that the first node of a type is in the middle, and all of it in sight."""
        self.page.evaluate(
            """kind => {
                const { graph, canvas } = window.app;
                const node = graph.nodes.find((node) => node.type === kind);
                const { ds } = canvas;
                ds.scale = Math.min(1, 700 / (node.size[1] + 60));
                const [width, height] = [canvas.canvas.clientWidth, canvas.canvas.clientHeight];
                ds.offset[0] = width / ds.scale / 2 - node.pos[0] - node.size[0] / 2;
                ds.offset[1] = height / ds.scale / 2 + 40 - node.pos[1] - node.size[1] / 2;
                canvas.setDirty(true, true);
                return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            }""",
            kind,
        )

    def execute(self, command: str) -> None:
        """Executes a command, as the command palette and menus do."""
        self.page.evaluate("command => window.app.extensionManager.command.execute(command)", command)

    def queue(self) -> None:
        """Queues the workflow; returns before the server has answered, lest what is said meanwhile is gone again."""
        self.page.evaluate("() => { window.answer = window.app.queuePrompt(0).catch(() => false); }")

    @contextlib.contextmanager
    def late_answers(self) -> Iterator[None]:
        """The page hears what becomes of a prompt before the server's answer that takes it, as a busy page may."""
        self.page.evaluate(
            """() => {
                const { fetch } = window;
                const held = new Promise((release) => { window.answers = { fetch, release }; });
                window.fetch = async (...asked) => {
                    const answer = await fetch(...asked);
                    if (/[/]prompt$/.test(String(asked[0])) && asked[1]?.method === "POST") await held;
                    return answer;
                };
            }"""
        )
        yield
        self.page.evaluate("() => { window.fetch = window.answers.fetch; window.answers.release(); }")

    def picture(self, name: str, of: Locator | None = None) -> Path:
        """Keeps a screenshot in build/screenshots."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        (of or self.page).screenshot(path=path)
        return path

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._note_text(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _note_text(self, text: str) -> None:
        if f"/extensions/{EXTENSION}/" in text or EXTENSION in text:
            self.complaints.append(text)


def load(path: Path) -> dict[str, Any]:
    """A workflow file."""
    return json.loads(path.read_text(encoding="utf-8"))
