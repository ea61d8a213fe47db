"""What the browser tells of prefixes, and what it does with their files."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from anonymize_faces.prefix import Prefix, PrefixRecord, load_prefix, save_prefix
from anonymize_faces.prefix.files.preview import preview_path, save_preview
from anonymize_faces.tests.browser.workbench import TAB_BUTTON, Workbench
from anonymize_faces.tests.support.checkpoints import write_hollow_checkpoint
from anonymize_faces.tests.support.prefixes import random_prefix
from anonymize_faces.tools.comfy_server import ComfyServer

SCORES = {"identity_signal_left": 0.12, "general_prompts_moved": 0.03, "best_step": 80.0}
WIDTHS = {"sd1": {"l": 768}, "sdxl": {"l": 768, "g": 1280}}


def prefix_of(family: str, title: str = "") -> Prefix:
    told = {"identities": 48, "steps": 1500, "date": "2026-11-20T10:00:00+00:00", "scores": SCORES, "name": title}
    return random_prefix(WIDTHS[family], family=family, fingerprint="", **told)


@pytest.fixture
def files(server: ComfyServer, host_modules: None) -> Iterator[Path]:
    """The server's prefix folder with a prefix of each of two families, and with a checkpoint of one."""
    folder = server.prefix_folder
    for family in WIDTHS:
        save_prefix(prefix_of(family), folder / "seen" / f"of_{family}.safetensors")
    write_hollow_checkpoint(server.model_folder("checkpoints") / "hollow_SD1.safetensors", "SD1")
    yield folder
    for path in folder.glob("seen/*"):
        path.unlink()


def connect(workbench: Workbench, prefix: str, checkpoint: str) -> None:
    """A checkpoint and Anonymize Faces behind it, with these files chosen."""
    workbench.page.evaluate(
        """async ([prefix, checkpoint]) => {
            await window.app.refreshComboInNodes();
            const { graph, extensionManager } = window.app;
            const loader = window.LiteGraph.createNode("CheckpointLoaderSimple");
            const node = window.LiteGraph.createNode("AnonymizeFaces");
            graph.add(loader);
            node.pos = [500, 200];
            graph.add(node);
            loader.widgets.find((widget) => widget.name === "ckpt_name").value = checkpoint;
            node.widgets.find((widget) => widget.name === "prefix").value = prefix;
            loader.connect(1, node, 0);
        }""",
        [prefix, checkpoint],
    )


def said(workbench: Workbench, text: str, kind: str = "") -> None:
    """Waits until the node says so."""
    selector = f".anonymize-faces-prefix .{kind}" if kind else ".anonymize-faces-prefix"
    workbench.page.locator(selector).filter(has_text=text).first.wait_for()


def test_the_node_says_what_a_prefix_was_learned_on_and_what_it_scored(
    either_workbench: Workbench, files: Path
) -> None:
    connect(either_workbench, "seen/of_sd1.safetensors", "hollow_SD1.safetensors")
    said(either_workbench, "Learned on SD1: 48 people, 1500 steps, 10 vectors")
    said(either_workbench, "Recognizability left: 12% · Side effects on other prompts: 3%")
    said(either_workbench, "It fits this checkpoint (SD1)")


def test_a_prefix_of_another_family_is_warned_of_before_and_at_queueing(workbench: Workbench, files: Path) -> None:
    connect(workbench, "seen/of_sdxl.safetensors", "hollow_SD1.safetensors")
    said(workbench, "It does not fit: it was learned on SDXL, and this checkpoint is SD1", "alarm")
    workbench.picture("misfit")
    workbench.queue()
    workbench.told("It does not fit").first.wait_for()


def choose(workbench: Workbench, prefix: str) -> None:
    """Chooses another prefix, as a click in the list does."""
    workbench.page.evaluate(
        """prefix => {
            const node = window.app.graph.nodes.find((node) => node.type === "AnonymizeFaces");
            const widget = node.widgets.find((widget) => widget.name === "prefix");
            widget.value = prefix;
            widget.callback(prefix);
        }""",
        prefix,
    )


def height(workbench: Workbench) -> float:
    """Of the node, once it stays the same from picture to picture."""
    return workbench.page.evaluate(
        """async () => {
            const node = window.app.graph.nodes.find((node) => node.type === "AnonymizeFaces");
            let [height, times] = [0, 0];
            while (times < 10) {
                await new Promise(requestAnimationFrame);
                times = node.size[1] === height ? times + 1 : 0;
                height = node.size[1];
            }
            return height;
        }"""
    )


def test_a_node_keeps_its_height_whatever_it_has_to_say(workbench: Workbench, files: Path) -> None:
    connect(workbench, "seen/of_sd1.safetensors", "hollow_SD1.safetensors")
    at_once = workbench.page.evaluate(
        "() => window.app.graph.nodes.find((node) => node.type === 'AnonymizeFaces').computeSize()[1]"
    )
    said(workbench, "It fits this checkpoint")
    assert height(workbench) == at_once
    choose(workbench, "seen/of_sdxl.safetensors")
    said(workbench, "It does not fit", "alarm")
    assert height(workbench) == at_once


def test_the_canvas_is_zoomed_with_the_pointer_over_what_the_node_says(
    either_workbench: Workbench, files: Path
) -> None:
    page, scale = either_workbench.page, "() => window.app.canvas.ds.scale"
    connect(either_workbench, "seen/of_sd1.safetensors", "hollow_SD1.safetensors")
    said(either_workbench, "It fits this checkpoint")
    before = page.evaluate(scale)
    page.locator(".anonymize-faces-prefix").hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function(f"before => ({scale})() > before", arg=before)


def test_a_node_without_a_file_says_what_to_do(workbench: Workbench, files: Path) -> None:
    connect(workbench, "(no prefix files yet)", "hollow_SD1.safetensors")
    said(workbench, "No prefix is chosen yet: learn one", "alarm")


def test_where_the_family_cannot_be_told_it_says_so(workbench: Workbench, files: Path) -> None:
    connect(workbench, "seen/of_sd1.safetensors", "absent.safetensors")
    said(workbench, "only known when it runs")


def test_prefix_files_are_listed_renamed_brought_in_and_deleted(
    workbench: Workbench, files: Path, tmp_path: Path
) -> None:
    page = workbench.page
    connect(workbench, "seen/of_sd1.safetensors", "hollow_SD1.safetensors")
    page.locator(TAB_BUTTON).click()
    tab = page.locator(".anonymize-faces-library")
    card = tab.locator("details").filter(has_text="seen/of_sd1")
    card.locator("summary").press("Enter")
    card.get_by_text("SD1: 48 people, 1500 steps").wait_for()
    workbench.picture("prefixes")
    with page.expect_download() as download:
        card.get_by_role("button", name="Export").click()
    assert load_prefix(Path(download.value.path()).rename(tmp_path / "a.safetensors")).record.steps == 1500

    card.get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("seen/named anew")
    page.get_by_role("dialog").get_by_role("textbox").press("Enter")
    renamed = tab.locator("details").filter(has_text="seen/named anew")
    renamed.wait_for()
    assert (files / "seen" / "named anew.safetensors").is_file() and not (files / "seen/of_sd1.safetensors").exists()

    drop(workbench, save_prefix(prefix_of("sd1", "dropped"), tmp_path / "dropped by hand.safetensors"))
    tab.locator("details").filter(has_text="dropped by hand").wait_for()
    assert load_prefix(files / "dropped by hand.safetensors").record.name == "dropped"
    (tmp_path / "odd.safetensors").write_bytes(b"no prefix")
    drop(workbench, tmp_path / "odd.safetensors")
    tab.locator(".answers .alarm").filter(has_text="odd").wait_for()
    assert not (files / "odd.safetensors").exists()

    for name, sure in (("Cancel", False), ("Delete", True)):
        brought = tab.locator("details").filter(has_text="dropped by hand")
        if not sure:
            brought.locator("summary").press("Enter")
        brought.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name=name).click()
        page.get_by_role("dialog").wait_for(state="hidden")
        if sure:
            brought.wait_for(state="detached")
        assert (files / "dropped by hand.safetensors").exists() is not sure
    page.locator(TAB_BUTTON).click()
    tab.wait_for(state="detached")


def drop(workbench: Workbench, *paths: Path) -> None:
    """Drags files onto the tab and lets them go."""
    workbench.page.evaluate(
        """files => {
            const data = new DataTransfer();
            for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name));
            const place = document.querySelector(".anonymize-faces-library");
            for (const type of ["dragenter", "dragover", "drop"])
                place.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [[path.name, list(path.read_bytes())] for path in paths],
    )


def test_of_several_files_each_gets_its_answer(workbench: Workbench, files: Path, tmp_path: Path) -> None:
    page = workbench.page
    page.locator(TAB_BUTTON).click()
    tab = page.locator(".anonymize-faces-library")
    tab.get_by_role("button", name="Look again").wait_for()
    first, last = (save_prefix(prefix_of("sd1"), tmp_path / f"{name}.safetensors") for name in ("first", "last"))
    (tmp_path / "bad.safetensors").write_bytes(b"no prefix")
    (tmp_path / "empty.pt").write_bytes(b"")
    drop(workbench, first, tmp_path / "bad.safetensors", tmp_path / "empty.pt", last)
    answers = tab.locator(".answers > div")
    answers.nth(3).wait_for()
    said = answers.all_inner_texts()
    assert said[0] == "first.safetensors was imported." and said[3] == "last.safetensors was imported."
    assert said[1].startswith("bad.safetensors: ") and said[2].startswith("empty.pt: ")
    assert (files / "first.safetensors").is_file() and (files / "last.safetensors").is_file()
    tab.locator("details").filter(has_text="last").wait_for()
    workbench.picture("several files")
    page.locator(TAB_BUTTON).click()
    tab.wait_for(state="detached")


def test_one_odd_file_leaves_the_list_whole_and_a_forbidden_name_can_be_mended(
    workbench: Workbench, files: Path
) -> None:
    odd = PrefixRecord("sd1", "", steps=1, date="the day before yesterday")
    save_prefix(Prefix({"l": torch.ones(1, 768)}, odd), files / "seen" / "dated.safetensors")
    (files / "seen" / "q?mark.safetensors").write_bytes((files / "seen" / "of_sd1.safetensors").read_bytes())
    page = workbench.page
    connect(workbench, "seen/q?mark.safetensors", "hollow_SD1.safetensors")
    said(workbench, "cannot be used because of its name: it contains a character", "alarm")
    page.locator(TAB_BUTTON).click()
    tab = page.locator(".anonymize-faces-library")
    tab.locator("details").filter(has_text="seen/of_sd1").wait_for()
    dated = tab.locator("details").filter(has_text="seen/dated")
    dated.locator("summary").press("Enter")
    dated.get_by_text("the day before yesterday").wait_for()

    card = tab.locator("details").filter(has_text="seen/q?mark").filter(has_text="Rename it")
    card.locator("summary").press("Enter")
    card.get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("seen/mended")
    page.get_by_role("dialog").get_by_role("textbox").press("Enter")
    tab.locator("details").filter(has_text="seen/mended").wait_for()
    assert load_prefix(files / "seen" / "mended.safetensors").record.steps == 1500
    page.locator(TAB_BUTTON).click()
    tab.wait_for(state="detached")


def chosen(workbench: Workbench, checkpoint: str = "hollow_SD1.safetensors") -> list[str]:
    """The prefixes that the Anonymize Faces on the canvas have, after protecting a workflow of one checkpoint."""
    workbench.page.evaluate(
        """async checkpoint => {
            await window.app.refreshComboInNodes();
            const { graph } = window.app;
            const loader = window.LiteGraph.createNode("CheckpointLoaderSimple");
            const prompt = window.LiteGraph.createNode("CLIPTextEncode");
            prompt.pos = [500, 200];
            graph.add(loader);
            graph.add(prompt);
            loader.widgets.find((widget) => widget.name === "ckpt_name").value = checkpoint;
            loader.connect(1, prompt, 0);
        }""",
        checkpoint,
    )
    workbench.hush()
    workbench.execute("AnonymizeFaces.Protect")
    return [node["widgets_values"][0] for node in workbench.nodes("AnonymizeFaces")]


def test_protecting_chooses_the_newest_prefix_that_fits_or_the_one_that_is_set(
    workbench: Workbench, files: Path
) -> None:
    save_prefix(prefix_of("sdxl"), files / "a first by alphabet.safetensors")
    for age, name in enumerate(["z newest.safetensors", "b older.safetensors"]):
        path = save_prefix(prefix_of("sd1"), files / name)
        os.utime(path, (path.stat().st_mtime - 100 * age,) * 2)
    os.utime(files / "seen" / "of_sd1.safetensors", (1, 1))
    assert chosen(workbench) == ["z newest.safetensors"]
    said(workbench, "It fits this checkpoint (SD1)")
    workbench.told("z newest").first.wait_for()
    setting = "async value => { await window.app.extensionManager.setting.set('AnonymizeFaces.Prefix', value); }"
    for wanted, got in (("b older", "b older.safetensors"), ("a first by alphabet", "z newest.safetensors")):
        workbench.clear()
        workbench.page.evaluate(setting, wanted)
        assert chosen(workbench) == [got]
    workbench.page.evaluate(setting, "")
    workbench.clear()
    strength = setting.replace("Prefix", "Strength")
    workbench.page.evaluate(strength, 0.5)
    chosen(workbench)
    assert [node["widgets_values"][1] for node in workbench.nodes("AnonymizeFaces")] == [0.5]
    workbench.page.evaluate(strength, 1)


def test_a_prefix_of_the_tab_is_used_in_the_open_workflow(workbench: Workbench, files: Path) -> None:
    page = workbench.page
    for name in ("use first", "use second"):
        save_prefix(prefix_of("sd1"), files / f"{name}.safetensors")
    chosen(workbench)
    page.locator(TAB_BUTTON).click()
    tab = page.locator(".anonymize-faces-library")
    for name in ("use first", "use second"):
        card = tab.locator("details").filter(has_text=name)
        card.locator("summary").press("Enter")
        card.get_by_role("button", name="Use in this workflow").click()
        chooses = """name => window.app.graph.nodes.find((node) => node.type === "AnonymizeFaces")
            .widgets.find((widget) => widget.name === "prefix").value === `${name}.safetensors`"""
        page.wait_for_function(chooses, arg=name)
    assert len(workbench.nodes("AnonymizeFaces")) == 1
    other = tab.locator("details").filter(has_text="seen/of_sdxl")
    other.wait_for()
    tab.get_by_text("Only what fits this workflow (SD1)").click()
    other.wait_for(state="detached")
    tab.locator("details").filter(has_text="use first").wait_for()
    page.locator(TAB_BUTTON).click()
    tab.wait_for(state="detached")


def test_a_card_shows_people_grade_and_notes_and_can_be_dragged_onto_the_canvas(
    either_workbench: Workbench, files: Path
) -> None:
    workbench, page = either_workbench, either_workbench.page
    picture = io.BytesIO()
    Image.linear_gradient("L").resize((512, 256)).save(picture, "JPEG")
    made = prefix_of("sd1")
    record = dataclasses.replace(made.record, notes="<b>Learned</b> on a film crew.")
    shown = Prefix(made.vectors, record, picture.getvalue())
    save_preview(shown, save_prefix(shown, files / "with people.safetensors"))
    save_prefix(prefix_of("sd1"), files / "of another.safetensors")
    preview_path(files / "of another.safetensors").write_bytes(picture.getvalue())

    page.locator(TAB_BUTTON).click()
    tab = page.locator(".anonymize-faces-library")
    card = tab.locator("details").filter(has_text="with people")
    card.get_by_text("Partly protected").wait_for()
    card.get_by_text("<b>Learned</b> on a film crew.").first.wait_for()
    page.wait_for_function(
        """() => {
            const tab = document.querySelector(".anonymize-faces-library").shadowRoot;
            const cards = [...tab.querySelectorAll("summary")];
            const card = (name) => cards.find((found) => found.textContent.startsWith(name));
            const shown = card("with people").querySelector("img");
            return shown.naturalWidth === 512 && !card("of another").querySelector("img");
        }"""
    )
    workbench.picture(f"cards {'vue' if page.evaluate('() => window.LiteGraph.vueNodesMode') else 'classic'}")

    card.locator("summary").drag_to(page.locator("#graph-canvas"), target_position={"x": 900, "y": 300})
    chooses = """name => window.app.graph.nodes.length === 1 && window.app.graph.nodes[0].type === "AnonymizeFaces"
        && window.app.graph.nodes[0].widgets.find((widget) => widget.name === "prefix").value === name"""
    page.wait_for_function(chooses, arg="with people.safetensors")
    (node,) = workbench.nodes("AnonymizeFaces")
    target = page.evaluate(
        "([x, y]) => window.app.canvasPosToClientPos([x, y])", [node["pos"][0] + 60, node["pos"][1] - 12]
    )
    corner = page.locator("#graph-canvas").bounding_box()
    other = tab.locator("details").filter(has_text="of another").locator("summary")
    other.drag_to(
        page.locator("#graph-canvas"),
        target_position={"x": target[0] - corner["x"], "y": target[1] - corner["y"]},
        force=True,
    )
    page.wait_for_function(chooses, arg="of another.safetensors")
    page.locator(TAB_BUTTON).click()
    tab.wait_for(state="detached")


def test_where_no_prefix_fits_protecting_says_so_and_nothing_is_loaded(workbench: Workbench, files: Path) -> None:
    (files / "seen" / "of_sdxl.safetensors").unlink()
    save_prefix(prefix_of("sd1"), files / "a first by alphabet.safetensors")
    checkpoint = "hollow_SDXL.safetensors"
    write_hollow_checkpoint(workbench.server.model_folder("checkpoints") / checkpoint, "SDXL")
    assert chosen(workbench, checkpoint) == ["(choose a prefix)"]
    said(workbench, "No prefix for SDXL yet: train or import one.", "alarm")
    workbench.told("No prefix for SDXL yet").first.wait_for()
    workbench.picture("no prefix fits")
    log = len(workbench.server.log())
    workbench.page.evaluate(
        """() => {
            const { graph } = window.app;
            const [prompt] = graph.nodes.filter((node) => node.type === "CLIPTextEncode");
            const sampler = window.LiteGraph.createNode("PreviewAny");
            graph.add(sampler);
            prompt.connect(0, sampler, 0);
        }"""
    )
    workbench.queue()
    workbench.page.get_by_text("There is no prefix to use").or_(
        workbench.page.get_by_text(re.compile("error|rejected", re.IGNORECASE))
    ).first.wait_for()
    workbench.page.evaluate("() => window.answer")
    told = workbench.server.log()[log:]
    assert "There is no prefix to use" in told and "Requested to load" not in told and "Prompt executed" not in told


def test_the_settings_of_the_extension_are_in_the_hosts_dialog(workbench: Workbench) -> None:
    page = workbench.page
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Anonymize Faces", exact=True).first.click()
    for name in ("Prefix to protect with", "Strength to protect with", "Say what went well"):
        dialog.get_by_text(name, exact=True).first.wait_for()
    workbench.picture("settings")
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
