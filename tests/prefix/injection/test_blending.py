"""What a prefix of less than full strength says."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.prefix import PrefixMismatchError, blend

GENERATOR = torch.Generator().manual_seed(0)
PLAIN = torch.randn(1, 9, 4, generator=GENERATOR)
PREFIX = torch.randn(1, 3, 4, generator=GENERATOR)


def with_prefix(states, place, noise=0.1):
    """Protected states: the plain ones, moved a little by a prefix that stands at a place of theirs."""
    moved = states + noise * torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    prefix = PREFIX.expand(*states.shape[:-2], -1, -1)
    return torch.cat([moved[..., :place, :], prefix, moved[..., place:, :]], dim=-2)


def test_states_of_one_length_move_on_a_straight_line():
    protected = PLAIN + 1
    for strength in (0.0, 0.3, 1.0):
        torch.testing.assert_close(blend((PLAIN, None), (protected, None), strength)[0], PLAIN + strength)


@pytest.mark.parametrize("place", range(10))
def test_words_keep_their_places_wherever_the_prefix_stands(place):
    protected = with_prefix(PLAIN, place)
    blended = blend((PLAIN, None), (protected, None), 0.25)[0]
    own = [n for n in range(12) if not place <= n < place + 3]
    torch.testing.assert_close(blended[:, own], torch.lerp(PLAIN, protected[:, own], 0.25))


@pytest.mark.parametrize("place", [0, 4, 9])
def test_near_zero_the_positions_of_the_prefix_say_what_a_word_beside_it_says(place):
    blended = blend((PLAIN, None), (with_prefix(PLAIN, place), None), 0.0)[0]
    for position in range(place, place + 3):
        assert torch.equal(blended[:, position], PLAIN[:, min(place, 8)])


def test_at_one_the_conditioning_is_the_protected_one_exactly():
    protected = with_prefix(PLAIN, 4)
    assert torch.equal(blend((PLAIN, None), (protected, None), 1.0)[0], protected)


def test_further_conditionings_move_too_and_masks_are_the_protected_ones():
    layers = PLAIN.expand(5, -1, -1).unsqueeze(0)
    protected, protected_layers, mask = with_prefix(PLAIN, 2), with_prefix(layers, 2), torch.ones(1, 12).long()
    pooled = torch.zeros(1, 4), torch.ones(1, 4)
    extras = {"attention_mask": torch.ones(1, 9).long(), "conditioning_llama3": layers, "num_layers_stacked": 4}
    found = blend(
        (PLAIN, pooled[0], extras),
        (protected, pooled[1], {**extras, "attention_mask": mask, "conditioning_llama3": protected_layers}),
        0.5,
    )
    assert torch.equal(found[1], torch.full((1, 4), 0.5))
    assert torch.equal(found[2]["attention_mask"], mask)
    assert found[2]["num_layers_stacked"] == 4
    torch.testing.assert_close(
        found[2]["conditioning_llama3"][..., 5:, :],
        torch.lerp(layers[..., 2:, :], protected_layers[..., 5:, :], 0.5),
    )


def test_a_protected_conditioning_that_is_shorter_is_refused_with_the_remedy():
    with pytest.raises(PrefixMismatchError, match="set strength to 1 or 0"):
        blend((PLAIN, None), (PLAIN[:, 1:], None), 0.5)
