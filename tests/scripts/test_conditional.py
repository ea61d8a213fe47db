"""Shows that Automatic1111 and Forge make the vectors of a conditional prefix for each prompt, or refuse to draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.prefix import Prefix, save_prefix
from anonymize_faces.prefix.meta_network import made_vectors, network_of
from anonymize_faces.prefix.name_words import neutral_embedding
from anonymize_faces.tests.support.conditional import finding_names, with_gates, with_random_networks
from anonymize_faces.tests.support.web_ui.encoders import prefix_for
from anonymize_faces.tests.support.web_ui.host import Host

ON = (True, "people.safetensors", 1.0)
OFF = (False, "people.safetensors", 1.0)
PROMPT = "a portrait of Ada"


def picture(made: Host, prompt: str = PROMPT, panel: tuple = ON) -> Any:
    """The conditioning that a prompt is drawn with, encoded anew."""
    kept = made.processing.StableDiffusionProcessing
    kept.kept_c[:] = kept.kept_uc[:] = [None, None]
    found = made.draw(prompt, panel, negative_prompt="").images[0][0][0][-1][-1][1]
    return found["crossattn"] if isinstance(found, dict) else found


def use(made: Host, prefix: Prefix) -> None:
    """Makes `people.safetensors` this one."""
    save_prefix(prefix, made.folder / "people.safetensors", overwrite=True)


def states_of(made: Host, prompt: str) -> torch.Tensor:
    """The last states of the one text model, as the prompt is read without a prefix."""
    (reader,) = made.shared.sd_model.readers.values()
    said: list[torch.Tensor] = []
    hook = reader.read_by.register_forward_hook(lambda *call: said.append(call[-1].last_hidden_state.detach()))
    try:
        picture(made, prompt, OFF)
    finally:
        hook.remove()
    return said[-1]


@pytest.mark.parametrize("kind", ["forge", "automatic"])
def test_each_prompt_is_drawn_with_the_vectors_that_are_made_for_it(open_host, kind: str) -> None:
    made = open_host(kind)
    fixed = prefix_for("sd1", m=3)
    use(made, fixed)
    before = picture(made)
    said = {prompt: states_of(made, prompt) for prompt in (PROMPT, "a cat")}
    prefix = with_random_networks(fixed, {"l": torch.cat([*said.values()])[:, 1:9].flatten(0, 1)})
    for prompt, words in ((PROMPT, 4), ("a cat", 2)):
        read = torch.zeros(1, 77, dtype=torch.bool)
        read[:, 1 : 1 + words + 1] = True
        (vectors,) = made_vectors(fixed.vectors["l"], network_of(prefix.networks, "l"), said[prompt], read).vectors
        use(made, Prefix({"l": vectors}, fixed.record))
        expected = picture(made, prompt)
        use(made, prefix)
        torch.testing.assert_close(picture(made, prompt), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(picture(made), before, atol=1e-3)


@pytest.mark.parametrize("kind", ["forge", "automatic"])
def test_words_of_a_name_are_read_as_the_neutral_one(open_host, kind: str) -> None:
    made = open_host(kind)
    fixed = prefix_for("sd1", m=3)
    use(made, fixed)
    (reader,) = made.shared.sd_model.readers.values()
    table = reader.read_by.text_model.embeddings.token_embedding.wrapped
    ada, *others = (
        [table(torch.tensor(reader.tokenizer(text, add_special_tokens=False)["input_ids"])).detach()]
        for text in ("ada", "a portrait of", "a lighthouse by the sea")
    )
    prompt = f"{PROMPT} by the (Ada:1.2)"
    said = states_of(made, prompt)
    prefix = with_random_networks(fixed, {"l": said[0, 1:9]})
    prefix = finding_names(prefix, {"l": (*ada, *others[0], *others[1])})
    network, read = network_of(prefix.networks, "l"), torch.zeros(1, 77, dtype=torch.bool)
    read[:, 1:9] = True  # Seven words and the end.
    (vectors,) = made_vectors(fixed.vectors["l"], network, said, read).vectors
    use(made, Prefix({"l": vectors}, fixed.record))
    unread = picture(made, prompt)
    (number,) = reader.tokenizer("ada", add_special_tokens=False)["input_ids"]
    hook = table.register_forward_hook(
        lambda _, given, out: torch.where((given[0] == number)[..., None], neutral_embedding(network), out)
    )
    expected = picture(made, prompt)
    hook.remove()
    use(made, prefix)
    torch.testing.assert_close(picture(made, prompt), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(expected, unread, atol=1e-3)


@pytest.mark.parametrize("kind", ["forge", "automatic"])
def test_a_closed_gate_leaves_what_the_prompt_says_as_it_is(open_host, kind: str) -> None:
    made = open_host(kind)
    prefix = with_random_networks(prefix_for("sd1", m=3), {"l": torch.cat([states_of(made, PROMPT)])[0, 1:9]})
    plain, drawn = picture(made, PROMPT, OFF), []
    for gate in (0.0, 0.5, 1.0):
        use(made, with_gates(prefix, gate))
        drawn.append(picture(made))
    torch.testing.assert_close(drawn[0], plain, atol=1e-4, rtol=0)
    beside = torch.cat([plain[:1], plain[-3:], plain[1:-3]])
    torch.testing.assert_close(drawn[1], torch.lerp(beside, drawn[2], 0.5), atol=1e-4, rtol=0)
    assert not torch.allclose(drawn[2], plain, atol=1e-3)


def test_a_text_encoder_that_does_not_say_what_is_needed_is_refused(open_host) -> None:
    made = open_host("automatic", "sd2")
    fixed = prefix_for("sd2", m=3)
    width = fixed.widths["h"]
    use(made, with_random_networks(fixed, {"h": torch.randn(20, width)}))
    with pytest.raises(
        made.error("PrefixMismatchError"), match="use it in ComfyUI, or learn one with 'conditional' off"
    ):
        picture(made)
    assert not made.drawn
