"""Texts of strangers, led to every place where a real browser shows them: none is taken for markup, all read right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.demo.world.people import cast
from anonymize_faces.demo.world.renderer import draw, picture_of
from anonymize_faces.prefix import Prefix, as_markup, save_prefix
from anonymize_faces.tests.browser.workbench import Workbench
from anonymize_faces.tests.support.evaluation_workflow import SMALL, node
from anonymize_faces.tests.support.prefixes import demo_prefix

SCRIPT = '<img src=x onerror="window.ran = true">'
HOSTILE = (
    f"Tom & Ann <3 {SCRIPT} <svg onload='window.ran=true'> [[here|https://b.example]] __LNK0__ &lt;b&gt;"
    " [link](javascript:window.ran=true) `a` *b* www.c.example https://d.example/<i>"
)
MENU = "video.safetensors" + SCRIPT + ".safetensors"
"""A file that somebody gets from a stranger and puts into the folder; Windows could not store it."""


@pytest.fixture
def page(workbench: Workbench) -> Iterator[Any]:
    """Playwright's page, in which no script of a text may have run in the end."""
    page = workbench.page
    page.evaluate("() => { window.ran = false; }")
    yield page
    page.evaluate("() => new Promise((done) => setTimeout(done, 200))")  # Pictures that are not there take a moment.
    assert page.evaluate("() => window.ran") is False


def load(page: Any, graph: dict[str, Any]) -> None:
    """Opens a workflow as the API has it."""
    page.evaluate("graph => window.app.loadApiJson(graph, 'texts')", graph)


def reported(page: Any, text: str) -> str:
    """What a node shows of its run, once one shows that text."""
    place = page.locator(".anonymize-faces-report .report").filter(has_text=text).first
    place.wait_for()
    assert place.evaluate("place => place.children.length") == 0
    return place.inner_text()


def hostile_prefix() -> Prefix:
    texts = {"date": HOSTILE[:100], "name": HOSTILE, "notes": HOSTILE, "scores": {HOSTILE: 1.0}}
    return demo_prefix(identities=3, steps=9, **texts)


def test_what_an_evaluation_reports_of_its_prompts_is_shown_as_it_was_written(workbench: Workbench, page: Any) -> None:
    prompt = f"{{name}} {HOSTILE}"
    settings = SMALL | {"prompts": prompt, "general_prompts": "", "images_per_name": 1, "images_per_prompt": 0}
    wires = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "identities": ["2", 0]}
    people = node("IdentityList", text="Ada Example: a woman")
    load(page, {"1": node("LoadDemoModel"), "2": people, "3": node("EvaluateAnonymization", **settings, **wires)})
    workbench.queue()
    shown = reported(page, "Protocol version")
    workbench.picture("markup")
    assert HOSTILE in " ".join(shown.split()), shown

    output = workbench.server.workspace / "output" / "evaluations"
    newest = max(output.rglob("evaluation.html"), key=lambda path: path.stat().st_mtime)
    document = page.context.new_page()
    document.goto(newest.as_uri())
    assert HOSTILE in document.locator("body").inner_text()
    assert document.locator("img").first.get_attribute("alt").endswith(HOSTILE)
    assert document.evaluate("() => window.ran") is None and document.locator("a, svg, i, b").count() == 0
    document.close()


def test_who_is_described_and_who_is_left_out_is_told_as_files_are_called(workbench: Workbench, page: Any) -> None:
    folder = workbench.server.workspace / "input" / "from a stranger"
    folder.mkdir(parents=True, exist_ok=True)
    called, refused = "Tom & Ann <3 <u>", f"Ben {SCRIPT}"
    for name in (called, refused):
        Image.fromarray(draw(picture_of(np.random.default_rng(3), cast()[0], 0))).save(folder / f"{name}.png")
    describe = node(
        "DescribePeople", folder=folder.name, reader="demo reader", certainty=0.85, attributes="usual",
        several="largest", only_photographs=False, names="",
    )  # fmt: skip
    shown = {"2": node("PreviewAny", source=["1", 1]), "3": node("PreviewAny", source=["1", 2])}
    load(page, {"1": describe} | shown)
    workbench.queue()
    assert f"{refused}: Their line has '='" in reported(page, "described from 2 pictures")
    # The host's own node may take what it shows for Markdown; nothing of it may run all the same.
    assert workbench.previewed("2", cast()[0].looks.describe()).startswith("Tom & Ann <3")
    assert workbench.previewed("3", "Their line has").startswith("person,attribute,answer,")
    assert page.locator("img[src='x'], [onerror]").count() == 0
    workbench.picture("markup described")


@pytest.mark.parametrize(
    "text", [HOSTILE, "Tom & Ann <3", "one\r\ntwo\tthree", "é 東京 👩‍👩‍👧 \u2028", "\x00\x1b\ud800"]
)
def test_html_shows_what_was_written(workbench: Workbench, page: Any, text: str) -> None:
    shown = page.evaluate(
        """markup => {
            const place = document.createElement("pre");
            place.innerHTML = markup;
            return [place.textContent, place.children.length];
        }""",
        as_markup(text),
    )
    want = text.replace("\r\n", "\n")
    for unknown in "\x00\x1b\ud800":
        want = want.replace(unknown, "\ufffd")
    assert shown == [want, 0]


def test_what_a_file_says_is_shown_in_the_tab_and_on_the_node_as_it_was_written(
    workbench: Workbench, page: Any
) -> None:
    save_prefix(hostile_prefix(), workbench.server.prefix_folder / "Tom & Ann.safetensors")
    page.evaluate("() => window.app.extensionManager.sidebarTab.toggleSidebarTab('anonymize-faces')")
    tab = page.locator(".anonymize-faces-library")
    tab.get_by_role("button", name="Look again").click()
    entry = tab.locator("details").filter(has_text="Tom & Ann")
    entry.locator("summary").click()
    assert HOSTILE in " ".join(entry.inner_text().split())
    assert entry.locator("img, svg, a").count() == 0
    entry.get_by_role("button", name="Delete").click()
    page.get_by_text("Delete Tom & Ann.safetensors for good?").wait_for()
    page.keyboard.press("Escape")
    page.evaluate("() => window.app.extensionManager.sidebarTab.toggleSidebarTab('anonymize-faces')")


@pytest.mark.parametrize("kind", ["confirm", "prompt"])
def test_a_dialog_shows_a_name_as_it_is(workbench: Workbench, page: Any, kind: str) -> None:
    page.evaluate(
        """([kind, text]) => {
            window.app.extensionManager.dialog[kind]({ title: text, message: text, defaultValue: text });
        }""",
        [kind, SCRIPT],
    )
    page.get_by_text("onerror").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("onerror").first.wait_for(state="detached")


@pytest.mark.parametrize("kind", ["AnonymizeFaces", "LoadAnonymizationPrefix", "EvaluateAnonymization"])
def test_a_menu_of_files_shows_names_as_they_are(workbench: Workbench, page: Any, kind: str) -> None:
    save_prefix(hostile_prefix(), workbench.server.prefix_folder / "ok.safetensors")
    (workbench.server.prefix_folder / MENU).write_bytes(
        (workbench.server.prefix_folder / "ok.safetensors").read_bytes()
    )
    page.evaluate(
        """async kind => {
            await window.app.refreshComboInNodes();
            const { graph, canvas } = window.app;
            const node = window.LiteGraph.createNode(kind);
            graph.add(node);
            await window.app.refreshComboInNodes();
            const widget = node.widgets.find((found) => found.type === "combo" && /prefix|file/.test(found.name));
            const { values } = widget.options;
            new window.LiteGraph.ContextMenu(typeof values === "function" ? values() : values, { event: null });
        }""",
        kind,
    )
    page.locator(".litemenu-entry").filter(has_text="ok.safetensors").first.wait_for()
    assert page.locator(".litecontextmenu img").count() == 0
    page.evaluate("() => document.querySelectorAll('.litecontextmenu').forEach((menu) => menu.remove())")


@pytest.mark.parametrize("where", ["before it runs", "while it runs"])
def test_an_error_that_quotes_a_text_shows_it_as_it_was_written(workbench: Workbench, page: Any, where: str) -> None:
    saving = node("SaveAnonymizationPrefix", prefix=["1", 0], name=SCRIPT, format="safetensors")
    load(page, {"1": node("LoadAnonymizationPrefix", file=SCRIPT), "2": saving})
    if where == "while it runs":
        save_prefix(hostile_prefix(), workbench.server.prefix_folder / "ok.safetensors")
        load(page, {"1": node("LoadAnonymizationPrefix", file="ok.safetensors"), "2": saving})
    workbench.queue()
    # Newer frontends say first that there are errors; the sentence is behind that.
    told = page.get_by_text("onerror").or_(page.get_by_text(re.compile("error|rejected", re.IGNORECASE)))
    told.first.wait_for()
    workbench.picture(f"markup error {where}")


def test_the_panel_of_a_run_shows_names_and_messages_as_they_were_written(workbench: Workbench, page: Any) -> None:
    run = {
        "prompt_id": "1", "node_id": "1", "workflow_id": None, "state": "failed", "message": HOSTILE,
        "done": 1, "of": 2, "seconds_left": None, "score": None,
        "curve": {"steps": [], "identities": [], "general": []},
        "picture": {"number": 1, "people": [HOSTILE], "held_out": True},
    }  # fmt: skip
    page.evaluate(
        """run => {
            const node = window.LiteGraph.createNode("TrainAnonymizationPrefix");
            window.app.graph.add(node);
            run.node_id = String(node.id);
            window.app.api.dispatchCustomEvent("anonymize_faces.training", { version: 1e9, run });
        }""",
        run,
    )
    panel = page.locator(".anonymize-faces-training")
    panel.locator(".message").filter(has_text="Tom & Ann").wait_for(state="attached")
    assert panel.locator(".message").text_content() == HOSTILE
    assert HOSTILE in panel.locator("img").get_attribute("alt")
