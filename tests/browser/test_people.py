"""The lists of kinds of people that an Identity List can begin with."""

from __future__ import annotations

import pytest

from anonymize_faces.tests.browser.workbench import Workbench
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.trainer.data.identities import EXAMPLE, parse_identities

LISTS = sorted((ROOT / "web" / "people").glob("*.txt"))
BUTTON = "Insert a list of kinds of people …"


@pytest.mark.parametrize("path", LISTS, ids=[path.stem for path in LISTS])
def test_a_list_names_nobody_until_names_are_written_in(path) -> None:
    head, lines = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        (lines if ": a" in line and not head[4:] and len(head) >= 4 else head).append(line)
    assert len(head) == 4 and len(lines) == 20 and all(line.startswith("# ") for line in [*head, *lines])
    kinds = [line.removeprefix("# ").partition(":")[::2] for line in lines]
    assert all(kind == kind.lower() for kind, _ in kinds), "kinds of people, no names"
    people = parse_identities("\n".join(f"Person Example{n}:{looks}" for n, (_, looks) in enumerate(kinds)))
    assert len(people) == 20 and len({person.description for person in people}) >= 18


def test_a_list_of_kinds_of_people_is_put_in_place_of_the_example_and_behind_a_list(
    either_workbench: Workbench,
) -> None:
    workbench, page = either_workbench, either_workbench.page
    page.evaluate(
        """() => {
            const node = window.LiteGraph.createNode("IdentityList");
            node.pos = [300, 200];
            window.app.graph.add(node);
        }"""
    )
    workbench.settle()
    find = """() => window.app.graph.nodes[0].widgets.find(({ name }) => name === "%s")"""
    assert EXAMPLE in page.evaluate(f"() => ({find % 'text'})().value")
    for title, start in (("Music and sport", "# Music and sport"), ("History and science", "# History and science")):
        if page.evaluate("() => Boolean(window.LiteGraph.vueNodesMode)"):
            page.get_by_text(BUTTON).first.click()
        else:
            page.evaluate(f"() => ({find % BUTTON})().callback()")
        page.locator(".litecontextmenu").get_by_text(title).click()
        page.wait_for_function(f"start => ({find % 'text'})().value.includes(start)", arg=start)
    text = page.evaluate(f"() => ({find % 'text'})().value")
    assert text.startswith("# History and science") and EXAMPLE not in text
    page.evaluate(f"() => {{ ({find % 'text'})().value = 'Somebody: a man'; }}")
    if page.evaluate("() => Boolean(window.LiteGraph.vueNodesMode)"):
        page.get_by_text(BUTTON).first.click()
    else:
        page.evaluate(f"() => ({find % BUTTON})().callback()")
    page.locator(".litecontextmenu").get_by_text("Film and television").click()
    page.wait_for_function(f"() => ({find % 'text'})().value.startsWith('Somebody: a man\\n# Film and television')")
    workbench.picture(f"people {'vue' if page.evaluate('() => window.LiteGraph.vueNodesMode') else 'classic'}")
    # The button is saved nowhere.
    (node,) = workbench.nodes("IdentityList")
    assert len(node["widgets_values"]) == 1
