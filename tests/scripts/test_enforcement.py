"""A web UI that enforces a prefix cannot be talked out of it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.web_ui.encoders import prefix_for
from anonymize_faces.tests.support.web_ui.host import SCRIPT, load
from anonymize_faces.tests.support.web_ui.requests import OFF, ON, OTHERS, PROMPT, picture


@pytest.fixture
def expected(open_host):
    """What the prompt becomes with the prefix, and without."""
    made = open_host()
    return picture(made.draw(PROMPT, ON)), picture(made.draw(PROMPT))


@pytest.mark.parametrize(
    "panel", [None, OFF, OTHERS, (True, "people.safetensors", 0.0), (True, "gone.safetensors", 7), ("?", None, None)]
)
def test_every_request_is_protected_whatever_its_panel_says(open_host, expected, monkeypatch, panel):
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    made = open_host()
    drawn = made.draw(PROMPT, panel)
    assert torch.equal(picture(drawn), expected[0])
    assert "Anonymize Faces prefix: people.safetensors, Anonymize Faces strength: 1.0" in drawn.infotext


def test_the_plot_and_requests_without_scripts_are_protected_too(open_host, expected, monkeypatch):
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    made = open_host()
    bare = made.processing.StableDiffusionProcessingImg2Img(prompt=PROMPT)
    assert torch.equal(picture(made.processing.process_images(bare)), expected[0])
    plotted = made.request(PROMPT, OFF)
    made.scripts.scripts_data[0].module.axis_options[0].apply(plotted, "None", [])
    assert torch.equal(picture(made.processing.process_images(plotted)), expected[0])
    with torch.no_grad():
        outside = made.shared.sd_model.get_learned_conditioning([PROMPT])[0]
    assert torch.equal(outside, expected[0]), "encoded outside of any request"


def test_the_prefix_is_read_once_and_the_file_no_longer_counts(open_host, expected, monkeypatch):
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    made = open_host()
    save_prefix(prefix_for("sd1", seed=9), made.folder / "people.safetensors", overwrite=True)
    assert torch.equal(picture(made.draw(PROMPT)), expected[0])
    (made.folder / "people.safetensors").unlink()
    monkeypatch.delenv("ANONYMIZE_FACES_ENFORCE")
    made.part("start").start()  # as at a reload
    assert torch.equal(picture(made.draw(PROMPT)), expected[0])


@pytest.mark.parametrize("name", ["gone.safetensors", "", "../people.safetensors"])
def test_a_wrong_setting_refuses_everything_and_the_panel_says_so(open_host, monkeypatch, name):
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", name)
    made = open_host()
    for panel in (None, ON):
        with pytest.raises(made.error("AnonymizationError"), match="must anonymize every prompt and cannot"):
            made.draw(PROMPT, panel)
    with pytest.raises(made.error("AnonymizationError"), match="must anonymize every prompt and cannot"):
        made.shared.sd_model.get_learned_conditioning([PROMPT])
    assert not made.drawn


def test_a_checkpoint_that_the_prefix_does_not_fit_is_refused(open_host, monkeypatch):
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    made = open_host()
    save_prefix(prefix_for("sdxl"), made.folder / "people.safetensors", overwrite=True)
    made = open_host("forge", "sd2")
    with pytest.raises(made.error("PrefixMismatchError")):
        made.draw(PROMPT)


def test_a_host_that_is_not_known_is_told_and_one_that_must_protect_does_not_start(open_host, monkeypatch):
    made = open_host()
    error = made.error("AnonymizationError")
    del made.patches.original
    with pytest.raises(error, match="cannot protect anything in this host"):
        made.part("start").start()
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    made = open_host()
    del made.patches.original
    with pytest.raises(SystemExit, match="cannot protect anything in this host"):
        made.part("start").start()


@pytest.mark.parametrize("kind", ["forge", "automatic"])
def test_embeddings_are_refused_by_their_bare_words_unless_the_operator_allows_them(
    open_host, monkeypatch, tmp_path, kind
):
    open_host()  # Puts the prefix there.
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    for name, value in (("ada", 1.0), ("ink", 0.5)):
        (tmp_path / "embeddings").mkdir(exist_ok=True)
        save_file({"emb_params": torch.full((2, 32), value)}, tmp_path / "embeddings" / f"{name}.safetensors")
    for allowed in ("refuse", "ink", "allow", "ada, ink"):
        monkeypatch.setenv("ANONYMIZE_FACES_EMBEDDINGS", allowed)
        made = open_host(kind)
        made.shared.sd_model.readers["l"].holder.by_word["ada-ti"] = torch.ones(2, 32)
        if allowed.startswith("a"):
            made.draw("a portrait of ada-ti")
        else:
            with pytest.raises(made.error("AnonymizationError"), match=r"uses the embedding .* 'ada-ti'"):
                made.draw("a portrait of ada-ti")
            with pytest.raises(made.error("AnonymizationError"), match="uses the embedding"):
                made.shared.sd_model.get_learned_conditioning(["ada-ti"])
        made.draw(PROMPT)


def test_a_start_that_fails_leaves_a_web_ui_that_draws_nothing_if_a_prefix_is_enforced(open_host, monkeypatch):
    def fail():
        raise OverflowError("too large")

    for setting in (None, "people.safetensors"):
        if setting is not None:
            monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", setting)
        made = open_host()
        with monkeypatch.context() as patched:
            patched.setattr(made.part("start"), "start", fail)
            with pytest.raises(OverflowError):
                made.script.start()
        if setting is None:
            assert made.draw(PROMPT)
        else:
            with pytest.raises(RuntimeError, match=r"must anonymize every prompt and cannot.*OverflowError: too large"):
                made.draw(PROMPT)


def test_a_second_copy_is_told_and_its_own_setting_refuses_everything(open_host, tmp_path):
    made = open_host()
    second = tmp_path / "second"
    (second / "scripts").mkdir(parents=True)
    for name in ("__init__.py", "scripts/anonymize_faces.py"):
        (second / name).write_bytes((SCRIPT.parents[1] / name).read_bytes())
    with pytest.raises(RuntimeError, match=r"two copies of Anonymize Faces.*remove one of them"):
        load(second / "scripts" / "anonymize_faces.py")
    assert made.draw(PROMPT)
    (second / "enforce.ini").write_text("[enforcement]\nprefix = people.safetensors\n")
    with pytest.raises(RuntimeError, match="two copies of Anonymize Faces"):
        load(second / "scripts" / "anonymize_faces.py")
    with pytest.raises(RuntimeError, match="must anonymize every prompt and cannot"):
        made.draw(PROMPT)
