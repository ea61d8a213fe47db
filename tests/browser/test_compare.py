"""The slider of Compare Strengths, in a real browser."""

from __future__ import annotations

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.browser.workbench import Workbench, load
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.layout import ROOT

EXAMPLE = ROOT / "example_workflows" / "3 Compare strengths.json"
WIDGETS = """values => {
    const node = window.app.graph.nodes.find((node) => node.type === "CompareStrengths");
    for (const widget of node.widgets) if (widget.name in values) widget.value = values[widget.name];
}"""
LOADED = """() => {
    const slider = document.querySelector(".anonymize-faces-slider").shadowRoot;
    const images = [...slider.querySelectorAll("img")];
    const loaded = images.length > 1 && images.every((image) => image.complete && image.naturalWidth > 0);
    return loaded && images.map((image) => image.src);
}"""


def test_any_two_columns_lie_over_each_other_with_a_slider_between_them(either_workbench: Workbench) -> None:
    workbench, page = either_workbench, either_workbench.page
    save_prefix(demo_prefix(), workbench.server.prefix_folder / "demo people.safetensors", overwrite=True)
    workbench.open(load(EXAMPLE))
    workbench.look_at("CompareStrengths")
    slider = page.locator(".anonymize-faces-slider")
    slider.get_by_text("Two columns to compare appear here").wait_for()
    assert slider.locator("select").first.is_disabled()
    page.evaluate(WIDGETS, {"steps": 1, "prompts": "a portrait of Alma Orlick"})
    workbench.queue()
    plain, protected = page.wait_for_function(LOADED).json_value()
    assert plain != protected
    left, right = slider.locator("select").all()
    assert left.locator("option").all_inner_texts() == ["without", "strength 0.5", "strength 0.75", "strength 1"]
    assert [choice.input_value() for choice in (left, right)] == ["0", "3"]

    right.select_option("1")
    assert page.wait_for_function(LOADED).json_value() == [plain, plain.replace("_00001_", "_00002_")]
    place = slider.locator("input").bounding_box()
    page.mouse.click(place["x"] + place["width"] / 4, place["y"] + place["height"] / 2)
    share = "() => document.querySelector('.anonymize-faces-slider').shadowRoot.querySelector('.pair').style.cssText"
    assert 20 < float(page.evaluate(share).partition(": ")[2].rstrip("%;")) < 30
    slider.locator("input").press("End")
    assert "100%" in page.evaluate(share)
    workbench.picture(f"compare {'vue' if page.evaluate('() => window.LiteGraph.vueNodesMode') else 'classic'}")

    # Saved and opened again, the workflow holds nothing of it, and the page still knows the last run's.
    saved = page.evaluate("() => JSON.stringify(window.app.graph.serialize())")
    assert "compared" not in saved and "strength 0.75" not in saved
