"""Two text encoders are told apart, and one is known again."""

from __future__ import annotations

import torch

from anonymize_faces.prefix import fingerprint


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layer.{n}": torch.randn(30 + n, 20, generator=generator) for n in range(4)}


def test_the_same_weights_have_the_same_fingerprint_in_any_order():
    assert fingerprint(weights()) == fingerprint(dict(reversed(weights().items())))


def test_it_is_the_same_on_every_machine():
    assert fingerprint({"w": torch.arange(1000.0).view(10, 100)}) == "b6434951113eb32f"


def test_a_half_precision_copy_has_the_same_fingerprint():
    assert fingerprint({name: tensor.half() for name, tensor in weights().items()}) == fingerprint(weights())


def test_other_weights_names_or_shapes_have_another_fingerprint():
    plain = fingerprint(weights())
    assert fingerprint(weights(1)) != plain
    assert fingerprint({f"x.{name}": tensor for name, tensor in weights().items()}) != plain
    assert fingerprint({name: tensor.T for name, tensor in weights().items()}) != plain


def test_buffers_that_hosts_add_and_drop_do_not_count():
    assert fingerprint(weights() | {"position_ids": torch.arange(77)}) == fingerprint(weights())


def test_what_a_file_may_lack_and_hosts_make_up_does_not_count():
    made_up = {"clip_l.logit_scale": torch.tensor(4.6), "clip_l.transformer.text_projection.weight": torch.eye(4)}
    assert fingerprint(weights() | made_up) == fingerprint(weights())
