"""The node Identity List on a real server: what it says of a list before anything is learned from it."""

from __future__ import annotations

import pytest

from anonymize_faces.tools.comfy_server import ComfyServer

MANY = "\n".join(f"Person {chr(65 + number)}: a woman with brown hair" for number in range(24))


@pytest.mark.parametrize(
    ("people", "told", "untold"),
    [
        (MANY, ["24 people."], ["Fewer than", "Without a description"]),
        ("Ada Example: a woman", ["1 person.", "Fewer than 20"], ["Without a description"]),
        (
            f"{MANY}\nBen Sample\nCleo Nobody",
            ["26 people.", "Without a description: Ben Sample, Cleo Nobody."],
            ["Few"],
        ),
    ],
)
def test_a_list_that_could_be_better_says_so(
    server: ComfyServer, people: str, told: list[str], untold: list[str]
) -> None:
    graph = {
        "people": {"class_type": "IdentityList", "inputs": {"text": people}},
        "shown": {"class_type": "PreviewAny", "inputs": {"source": ["people", 0]}},
    }
    (said,) = server.run(graph)["outputs"]["people"]["text"]
    assert all(part in said for part in told) and not any(part in said for part in untold)
