"""Shows what a meta-network reads of a prompt, and that one that is not whole is refused."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from anonymize_faces.prefix import (
    Prefix,
    PrefixFileError,
    PrefixMismatchError,
    PrefixValueError,
    load_prefix,
    save_prefix,
)
from anonymize_faces.prefix.files.textual_inversion import to_textual_inversion
from anonymize_faces.prefix.meta_network import made_vectors, network_of, positions_read, with_open_gates
from anonymize_faces.prefix.scored import scores_hold, with_scores
from anonymize_faces.tests.support.conditional import with_random_networks
from anonymize_faces.tests.support.prefixes import random_prefix


def made_prefix(**widths: int) -> Prefix:
    widths = widths or {"l": 768}
    return with_random_networks(random_prefix(widths, m=3), {key: torch.randn(50, 24) for key in widths})


@pytest.mark.parametrize(
    ("tokens", "after", "read"),
    [
        ("<ppa>>>>", 3, "...++..."),
        ("<pp>>>>>", 3, "...+...."),
        ("<pp>0000", 3, "...++..."),
        ("<ppabcde", 3, "...+++++"),
        ("ppab>000", 2, "..++++.."),
        ("<pppppab", 6, "......++"),
    ],
)
def test_what_stands_behind_the_vectors_is_read_up_to_the_first_of_the_padding(
    tokens: str, after: int, read: str
) -> None:
    same = torch.tensor([[False, *(one == two != "p" for one, two in itertools.pairwise(tokens))]])
    assert positions_read(same, torch.tensor([after]))[0].tolist() == [mark == "+" for mark in read]


def test_each_prompt_gets_vectors_of_its_own_whatever_stands_in_its_padding() -> None:
    prefix = made_prefix()
    network = network_of(prefix.networks, "l")
    states, read = torch.randn(2, 7, 24), torch.tensor([[0, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0, 0]]).bool()
    network |= {"detector": 0.1 * torch.randn(24), "threshold": torch.tensor([0.0])}
    made = made_vectors(prefix.vectors["l"], network, states, read)
    assert made.vectors.shape == (2, 3, 768) and not torch.allclose(made.vectors[0], made.vectors[1])
    assert made.gates.shape == (2,) and float(made.gates.min()) > 0 and made.gates[0] != made.gates[1]
    states[~read] = 1e6
    assert all(map(torch.equal, made_vectors(prefix.vectors["l"], network, states, read), made))
    alone = made_vectors(prefix.vectors["l"], network, states[:1], read[:1])
    assert torch.allclose(alone.vectors[0], made.vectors[0], atol=1e-6)


def test_the_clearest_position_opens_the_gate_whatever_stands_beside_it() -> None:
    prefix = made_prefix()
    network = network_of(prefix.networks, "l") | {"detector": torch.ones(24), "threshold": torch.tensor([-100.0])}
    name, other = network["mean"] + 10 * network["deviation"], network["mean"] - 10 * network["deviation"]
    for words in (1, 5, 60):
        states = other.repeat(2, words + 1, 1)
        states[0, words // 2] = name
        read = torch.ones(2, words + 1, dtype=torch.bool)
        gates = made_vectors(prefix.vectors["l"], network, states, read).gates
        assert gates[0] > 0.99 and gates[1] < 0.01
        opened = network_of(with_open_gates({f"l/{part}": tensor for part, tensor in network.items()}), "l")
        assert made_vectors(prefix.vectors["l"], opened, states, read).gates.tolist() == [1.0, 1.0]


def near(network: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A network whose gate opens within one deviation of the mean, if words say so."""
    near_names = {"middle": torch.zeros(24), "axes": torch.zeros(24, 2), "reach": torch.tensor([24**0.5])}
    return network | {"detector": torch.zeros(24), "threshold": torch.tensor([9.0])} | near_names


def test_far_from_names_the_gate_opens_only_beside_what_is_no_word() -> None:
    prefix = made_prefix()
    network = near(network_of(prefix.networks, "l"))
    beside, far = network["mean"] + 0.5 * network["deviation"], network["mean"] + 2 * network["deviation"]
    states, read = torch.stack([beside, far])[:, None], torch.ones(2, 1, dtype=torch.bool)

    def gates(parts: dict[str, torch.Tensor], *words: list[bool]) -> list[float]:
        return made_vectors(prefix.vectors["l"], parts, states, read, *words).gates.tolist()

    assert gates(network, [True, True]) == [pytest.approx(1.0, abs=1e-3), 0.0]
    for words in ([[False, False]], []):
        assert min(gates(network, *words)) > 0.99
    opened = network_of(with_open_gates({f"l/{part}": tensor for part, tensor in network.items()}), "l")
    assert gates(opened, [True, True]) == [1.0, 1.0]
    states[1] = float("nan")
    assert gates(network, [True, True])[1] != 0.0


def test_a_gate_that_knows_names_survives_its_file_and_older_versions_refuse_it(tmp_path: Path) -> None:
    prefix = made_prefix()
    networks = {f"l/{part}": tensor for part, tensor in near(network_of(prefix.networks, "l")).items()}
    prefix = Prefix(prefix.vectors, prefix.record, networks=networks)
    back = load_prefix(save_prefix(prefix, tmp_path / "one.safetensors"))
    assert back.record.format_version == 6
    assert all(torch.equal(back.parameters[name], tensor) for name, tensor in prefix.parameters.items())
    for change, said in (
        ({"l/reach": torch.zeros(1)}, "above zero"),
        ({"l/axes": torch.zeros(3, 2)}, "axes"),
        ({"l/middle": torch.full((24,), torch.inf)}, "not finite"),
    ):
        with pytest.raises(PrefixValueError, match=said):
            Prefix(prefix.vectors, prefix.record, networks=networks | change)
    for part in ("middle", "axes", "reach"):
        with pytest.raises(PrefixValueError, match=f"lacks {part}"):
            Prefix(prefix.vectors, prefix.record, networks={k: v for k, v in networks.items() if k != f"l/{part}"})


def test_it_survives_copies_and_its_file(tmp_path: Path) -> None:
    prefix = made_prefix(l=768, g=1280)
    path = save_prefix(prefix, tmp_path / "one.safetensors")
    for back in (load_prefix(path), pickle.loads(pickle.dumps(prefix)), copy.deepcopy(prefix)):
        assert back.is_conditional and back.record.format_version == 3
        assert back.parameters.keys() == prefix.parameters.keys()
        assert all(torch.equal(back.parameters[name], tensor) for name, tensor in prefix.parameters.items())
    assert Prefix(prefix.vectors, prefix.record).record.format_version == 1


def test_figures_belong_to_the_network_too() -> None:
    scored = with_scores(made_prefix(), {"identified": 0.1}, {"model": "demo"})
    assert scored.is_conditional and scores_hold(scored)
    networks = {**scored.networks, "l/offset": scored.networks["l/offset"] + 1e-3}
    assert not scores_hold(Prefix(scored.vectors, scored.record, networks=networks))


def test_no_embedding_file_can_hold_it() -> None:
    with pytest.raises(PrefixMismatchError, match=r"anew for every prompt.*safetensors"):
        to_textual_inversion(made_prefix())


def without(part: str):
    return lambda networks: {name: tensor for name, tensor in networks.items() if name != f"l/{part}"}


def put(part: str, change):
    return lambda networks: {**networks, f"l/{part}": change(networks[f"l/{part}"])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("keys"), "lacks keys"),
        (without("mean"), "lacks mean"),
        (put("keys", lambda t: t[:, :5]), "must be"),
        (put("outputs", lambda t: t[:2]), "outputs"),
        (put("offset", lambda t: t.half()), "float32"),
        (put("hidden", lambda t: t * float("nan")), "not finite"),
        (put("deviation", lambda t: t * 0), "above zero"),
        (put("spread", lambda t: t.repeat(2)), "spread"),
        (without("detector"), "lacks detector"),
        (put("threshold", lambda t: t.repeat(2)), "threshold"),
        (put("detector", lambda t: t[:3]), "detector"),
        (lambda networks: {**networks, "l/other": torch.zeros(1)}, "no part of a prefix"),
        (lambda networks: {**networks, "g/keys": torch.zeros(1)}, "no part of a prefix"),
    ],
)
def test_a_network_that_is_not_whole_is_refused(change, said: str) -> None:
    prefix = made_prefix()
    with pytest.raises(PrefixValueError, match=said):
        Prefix(prefix.vectors, prefix.record, networks=change(dict(prefix.networks)))


def test_a_prefix_without_a_network_for_each_encoder_is_refused() -> None:
    prefix = made_prefix(l=768, g=1280)
    mine = {name: tensor for name, tensor in prefix.networks.items() if name.startswith("l/")}
    with pytest.raises(PrefixValueError, match="'g' lack the network"):
        Prefix(prefix.vectors, prefix.record, networks=mine)


@pytest.mark.parametrize("version", [1, 3])
def test_a_file_that_lost_or_got_its_network_is_refused(version: int, tmp_path: Path) -> None:
    prefix = made_prefix() if version == 3 else random_prefix({"l": 768}, m=3)
    path = save_prefix(prefix, tmp_path / "one.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["record"])["format_version"] == version
    other = random_prefix({"l": 768}, m=3) if version == 3 else made_prefix()
    safetensors.torch.save_file(other.parameters, path, metadata)
    with pytest.raises(PrefixFileError, match="changed or damaged"):
        load_prefix(path)
