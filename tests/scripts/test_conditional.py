"""Shows that Automatic1111 and Forge make the vectors of a conditional prefix for each prompt, or refuse to draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.prefix import Prefix, save_prefix
from anonymize_faces.prefix.meta_network import made_vectors, network_of
from anonymize_faces.prefix.name_words import neutral_embedding
from anonymize_faces.tests.support.conditional import (
    far_from_all_names,
    finding_names,
    with_gates,
    with_random_networks,
)
from anonymize_faces.tests.support.web_ui.encoders import WIDTHS, prefix_for
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


@pytest.mark.parametrize("kind", ["forge", "automatic"])
def test_words_far_from_all_names_are_read_as_they_are_but_beside_an_embedding(open_host, kind: str) -> None:
    made = open_host(kind)
    reader = made.shared.sd_model.readers["l"]
    reader.holder.by_word["mystyle"] = torch.full((2, WIDTHS["l"]), 0.25)
    prefix = with_random_networks(prefix_for("sd1", m=3), {"l": torch.cat([states_of(made, PROMPT)])[0, 1:9]})
    use(made, far_from_all_names(prefix))
    torch.testing.assert_close(picture(made), picture(made, PROMPT, OFF), atol=1e-4, rtol=0)
    beside = f"{PROMPT} mystyle"
    assert not torch.allclose(picture(made, beside), picture(made, beside, OFF), atol=1e-3)


@pytest.mark.parametrize("several", [False, True])
def test_a_vector_of_an_embedding_that_says_a_name_is_read_as_the_neutral_one(open_host, several: bool) -> None:
    made = open_host("forge")
    reader = made.shared.sd_model.readers["l"]
    table = reader.read_by.text_model.embeddings.token_embedding.wrapped.weight.detach()
    own = torch.stack([torch.full((WIDTHS["l"],), 0.25), table[5000], torch.full((WIDTHS["l"],), -0.25)])
    reader.holder.by_word["mystyle"] = {"clip_l": own} if several else own
    prefix = with_random_networks(prefix_for("sd1", m=3), {"l": torch.cat([states_of(made, PROMPT)])[0, 1:9]})
    mean, deviation = table.mean(0), table.std(0)
    name = (table[5000] - mean) / deviation
    finder = {
        "finder": torch.cat([torch.zeros(WIDTHS["l"]), name]),
        "finder_threshold": torch.tensor([-0.9 * float(name.square().sum()), -100.0]),
        "word_mean": mean,
        "word_deviation": deviation,
        "neutral": torch.zeros(WIDTHS["l"]),
    }
    networks = {**prefix.networks, **{f"l/{part}": tensor for part, tensor in finder.items()}}
    use(made, Prefix(prefix.vectors, prefix.record, networks=networks))
    seen: list[torch.Tensor] = []
    hook = reader.read_by.text_model.embeddings.register_forward_hook(lambda _, __, rows: seen.append(rows.detach()))
    picture(made, "a portrait mystyle of Ada")
    hook.remove()
    positions = reader.read_by.text_model.embeddings.position_embedding.weight.detach()
    read = [rows[0] - positions for rows in seen]
    begins = [(rows - own[0]).abs().amax(1).lt(1e-5).nonzero().flatten().tolist() for rows in read]
    last, (begin,) = next((rows, at) for rows, at in zip(reversed(read), reversed(begins), strict=True) if at)
    neutral = neutral_embedding({part: networks[f"l/{part}"] for part in ("word_mean", "spread", "neutral")})
    torch.testing.assert_close(last[begin : begin + 3], torch.stack([own[0], neutral, own[2]]), atol=1e-4, rtol=0)


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
