"""Checks that a real Forge draws with the prefix whatever way it is asked.

The prefix of these checks has the embeddings of words for vectors. So each protected picture has an equal: the one that
is drawn without a prefix from a prompt that begins with those words. Equal means to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anonymize_faces.tests.forge.web_ui import ForgeDrawing, WebUi, serving

WORDS = "oil painting of a red boat "
PROMPT = "a portrait of Ada Lovelace"
ON = [True, "words.safetensors", 1.0]
OFF = [False, "words.safetensors", 1.0]
HIRES = {
    "enable_hr": True,
    "hr_scale": 1.5,
    "hr_upscaler": "Latent",
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 2,
    "hr_additional_modules": ["Use same choices"],
    "hr_cfg": 5,
}

Check = tuple[str, bool, str]
"""What was checked, whether it holds, and what there is to add."""


def check_server(forge: Path, python: Path, data: Path) -> Iterator[Check]:
    """Everything that is asked of a server, and of two more that enforce."""
    with serving(forge, python, data) as web_ui:
        yield from _prompts(web_ui)
        yield from _passes(web_ui)
        yield from _wrong(web_ui)
        yield from _kept(web_ui)
        yield from _plot(web_ui)
    with serving(forge, python, data, ANONYMIZE_FACES_ENFORCE="words.safetensors") as web_ui:
        written = web_ui.draw(WORDS + PROMPT, OFF, negative_prompt=WORDS)  # carries the prefix twice
        for name, panel in (("no panel", None), ("panel off", OFF), ("strength 0", [True, "xl.safetensors", 0])):
            drawn = web_ui.draw(PROMPT, panel)
            yield f"enforced, {name}", drawn.error is None and drawn != written, _told(drawn)
        enforced = web_ui.draw(PROMPT)
    with serving(forge, python, data) as web_ui:
        drawn = web_ui.draw(PROMPT, ON)
        yield "enforced is what the panel draws", enforced == drawn, f"{_told(enforced)} / {_told(drawn)}"
    with serving(forge, python, data, ANONYMIZE_FACES_ENFORCE="gone.safetensors") as web_ui:
        drawn = web_ui.draw(PROMPT, OFF)
        yield "a wrong setting refuses", "must anonymize every prompt and cannot" in str(drawn.error), str(drawn.error)


def _written(web_ui: WebUi, prompt: str, **more: Any) -> ForgeDrawing:
    """The equal of a protected picture: the words stand in the prompts, and there is no prefix."""
    negative = more.pop("negative_prompt", "")
    return web_ui.draw(prompt, negative_prompt=f"{WORDS}{negative}", **more)


def _prompts(web_ui: WebUi) -> Iterator[Check]:
    info = [script for script in web_ui.get("/sdapi/v1/script-info") if script["name"] == "anonymize faces"]
    yield "the panel is in both tabs", sorted(script["is_img2img"] for script in info) == [False, True], ""
    plain, protected = web_ui.draw(PROMPT), web_ui.draw(PROMPT, ON)
    yield "a prompt", protected == _written(web_ui, WORDS + PROMPT), _told(protected)
    yield "protected is not plain", protected != plain, ""
    half = web_ui.draw(PROMPT, [True, "words.safetensors", 0.5])
    yield "strength 0 is plain", web_ui.draw(PROMPT, [True, "words.safetensors", 0]) == plain, ""
    yield "strength 0.5 is neither", half.error is None and half not in (plain, protected), ""
    yield "plain again", web_ui.draw(PROMPT) == plain, ""
    for name, asked, written in (
        ("BREAK", "a cat BREAK a dog", f"{WORDS}a cat BREAK {WORDS}a dog"),
        ("AND", "a cat AND a dog", f"{WORDS}a cat AND {WORDS}a dog"),
        ("prompt editing", "a [cat:dog:0.5]", f"{WORDS}a [cat:dog:0.5]"),
        ("alternating words", "a [cat|dog]", f"{WORDS}a [cat|dog]"),
        ("emphasis", "a (cat:1.3)", f"{WORDS}a (cat:1.3)"),
        ("a textual inversion", "a cat ownstyle", f"{WORDS}a cat ownstyle"),
        ("a LoRA's tag", "a cat <lora:nothing:1>", f"{WORDS}a cat <lora:nothing:1>"),
    ):
        chunks = {"negative_prompt": f"BREAK {WORDS}"} if name == "BREAK" else {}
        yield name, web_ui.draw(asked, ON) == _written(web_ui, written, **chunks), ""
    long = "the quick brown fox jumps over the lazy dog and runs " * 7  # 77 words: 69 and 8 beside the prefix
    words = long.split()
    cut = f"{WORDS}{' '.join(words[:69])} BREAK {WORDS}{' '.join(words[69:])}"
    drawn = web_ui.draw(long, ON)
    yield "a prompt of two chunks", drawn == _written(web_ui, cut, negative_prompt=f"BREAK {WORDS}"), _told(drawn)
    skip = {"override_settings": {"CLIP_stop_at_last_layers": 2}}
    yield "CLIP skip", web_ui.draw(PROMPT, ON, **skip) == _written(web_ui, WORDS + PROMPT, **skip), ""


def _passes(web_ui: WebUi) -> Iterator[Check]:
    ours = web_ui.draw(PROMPT, ON, hr_prompt="Alan Turing", **HIRES)
    theirs = _written(
        web_ui, WORDS + PROMPT, hr_prompt=f"{WORDS}Alan Turing", hr_negative_prompt=WORDS.rstrip(), **HIRES
    )
    yield "hires fix with a prompt of its own", ours == theirs, _told(ours)
    yield (
        "hires fix with the same prompt",
        web_ui.draw(PROMPT, ON, **HIRES) == _written(web_ui, WORDS + PROMPT, **HIRES),
        "",
    )
    again = {"path": "img2img", "init_images": ours.encoded, "denoising_strength": 0.8}
    yield "img2img", web_ui.draw(PROMPT, ON, **again) == _written(web_ui, WORDS + PROMPT, **again), ""
    batch = {"batch_size": 2, "n_iter": 2}
    ours = web_ui.draw(PROMPT, ON, **batch)
    yield "batches", ours == _written(web_ui, WORDS + PROMPT, **batch) and len(ours.pixels) >= 4, ""
    ours, theirs = web_ui.draw("a cat twice", ON), _written(web_ui, f"{WORDS}a cat twice")
    yield "a second pass that drops our script", ours == theirs, _told(ours)
    told = [web_ui.draw(PROMPT, panel).infotexts[0] for panel in (None, [True, "words.safetensors", 0.5])]
    pasted = [web_ui.post("/second-pass/paste", {"infotext": text})[1] for text in told]
    holds = pasted == [[None, None, None], [True, "words.safetensors", "0.5"]]
    yield "an infotext pasted into the tab", holds, f"{pasted}"


def _wrong(web_ui: WebUi) -> Iterator[Check]:
    failing = web_ui.draw("failing callback")
    forgotten = failing.error is None and "this callback fails" in web_ui.log.read_text()
    yield "a callback's exception is forgotten by the host", forgotten, ""
    for name, panel, words in (
        ("a prefix that is not there", [True, "gone.safetensors", 1], "There is no prefix file"),
        ("a prefix of another family", [True, "xl.safetensors", 1], "learned on SDXL"),
        ("a strength out of range", [True, "words.safetensors", 2], "out of range"),
        ("a panel that cannot be read", ["yes", "words.safetensors", 1], "not true or false"),
        ("a panel without values", [], "gives no values for it"),
    ):
        drawn = web_ui.draw(PROMPT, panel)
        yield name, words in str(drawn.error) and not drawn.pixels, str(drawn.error)
    named = web_ui.draw(PROMPT, alwayson_scripts={"anonymize faces": {"enabled": True}})
    yield "a panel named without 'args'", "gives no values for it" in str(named.error), str(named.error)
    for panel, words in ((ON, "Time taken"), ([True, "gone.safetensors", 1], "There is no prefix file")):
        html = web_ui.post("/second-pass/press", {"prompt": PROMPT, "panel": panel})[1].get("html", "")
        shown = words in html and ("class=&#x27;error&#x27;" in html or "class='error'" in html) == (panel is not ON)
        yield f"the button with {panel[1]}", shown, html[:200]
    misspelt = web_ui.draw(PROMPT, alwayson_scripts={"anonymise faces": {"args": ON}})
    yield "a panel misspelt", "not found" in str(misspelt.error), str(misspelt.error)


def _kept(web_ui: WebUi) -> Iterator[Check]:
    panels = [None, ON, [True, "others.safetensors", 1.0], [True, "words.safetensors", 0.5]]
    first = [web_ui.draw(PROMPT, panel) for panel in panels]
    again = [web_ui.draw(PROMPT, panel) for panel in reversed(panels)]
    alike = all(one == other for one, other in zip(first, reversed(again), strict=True))
    differ = all(first[n] != first[k] for n in range(4) for k in range(n))
    yield "conditionings kept between requests", alike and differ, ""


def _plot(web_ui: WebUi) -> Iterator[Check]:
    plot = next(s for s in web_ui.get("/sdapi/v1/script-info") if s["name"] == "x/y/z plot" and not s["is_img2img"])
    axes = plot["args"][0]["choices"]
    prefix, strength = (axes.index(f"[Anonymize Faces] {what}") for what in ("Prefix", "Strength"))
    arguments = [prefix, "", ["None", "words.safetensors"], strength, "0.5, 1", "", 0, "", ""]
    arguments += [False, True, False, False, False, False, False, 0, False]
    drawn = web_ui.draw(PROMPT, OFF, script_name="x/y/z plot", script_args=arguments)
    cells = {(size, pixels) for size, pixels in drawn.pixels}
    plain, half, full = (web_ui.draw(PROMPT, panel) for panel in (None, [True, "words.safetensors", 0.5], ON))
    holds = all(one.pixels[0] in cells for one in (plain, half, full))
    yield "the plot draws without, at half and at full strength", holds and len(drawn.pixels) >= 4, _told(drawn)


def _told(drawn: ForgeDrawing) -> str:
    return drawn.error or drawn.infotexts[0].splitlines()[-1][-150:]
