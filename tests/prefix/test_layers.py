"""Shows that a prefix holds at the layers it was learned at, and at no other."""

from __future__ import annotations

import pytest

from anonymize_faces.prefix import PrefixMismatchError, PrefixRecord, allowed_layers, layers_note, require_layers
from anonymize_faces.prefix.layers import listed

OLD = PrefixRecord("sd1", "")
BOTH = PrefixRecord("sd1", "", layers={"l": [-2, -1]})


def _remedy(layers):
    return f"set CLIP Set Last Layer to {listed([str(layer) for layer in layers], 'or')}"


def test_a_prefix_whose_record_tells_no_layers_holds_at_the_usual_one_alone():
    require_layers(OLD, {"l": -1}, {"l": -1})
    require_layers(OLD, {"l": -2, "g": -2}, {"l": -2, "g": -2})
    for layer in (-2, -13, None, "all", (-1, -2), False, True):
        with pytest.raises(PrefixMismatchError):
            require_layers(OLD, {"l": layer}, {"l": -1})


def test_a_prefix_holds_at_each_layer_it_was_learned_at():
    for layer in (-1, -2):
        require_layers(BOTH, {"l": layer}, {"l": -1})
    with pytest.raises(PrefixMismatchError) as refused:
        require_layers(BOTH, {"l": -3}, {"l": -1}, _remedy)
    assert str(refused.value) == (
        "This prefix was learned at clip skip 1 and 2, and here the prompt is read at clip skip 3, where it does not"
        " protect: set CLIP Set Last Layer to -1 or -2, or train a prefix for that with Train Anonymization Prefix."
    )


def test_a_record_that_tells_layers_does_not_hold_at_the_usual_one_unless_it_says_so():
    record = PrefixRecord("sd1", "", layers={"l": [-2]})
    with pytest.raises(PrefixMismatchError, match="clip skip 2, and here the prompt is read at clip skip 1"):
        require_layers(record, {"l": -1}, {"l": -1})


def test_each_encoder_is_judged_by_itself():
    require_layers(BOTH, {"l": -1, "g": -2}, {"l": -2, "g": -2})
    with pytest.raises(PrefixMismatchError, match="'g' is read at clip skip 1"):
        require_layers(BOTH, {"l": -1, "g": -1}, {"l": -2, "g": -2}, _remedy)
    with pytest.raises(PrefixMismatchError):  # An encoder that nobody knows the usual layer of.
        require_layers(BOTH, {"l": -1, "h": -1}, {"l": -1})


def test_encoders_read_at_several_layers_hold_at_just_those():
    usual = {"mistral3_24b": (10, 20, 30)}
    require_layers(OLD, usual, usual)
    with pytest.raises(PrefixMismatchError):
        require_layers(OLD, {"mistral3_24b": (10, 20)}, usual)


def test_the_layers_are_told():
    assert allowed_layers(BOTH, {"l": -1, "g": -2}) == {"l": (-2, -1), "g": (-2,)}
    assert layers_note(BOTH, {"l": -1}) == "It holds at clip skip 1 and 2."
    assert layers_note(OLD, {"l": -2, "g": -2}) == "It holds at clip skip 2."
    assert layers_note(BOTH, {"l": -2, "g": -2}) == "It holds where clip skip is left as it is."
    assert layers_note(OLD, {"mistral3_24b": ("10", "20")}) == "It holds where clip skip is left as it is."
    assert layers_note(BOTH, {"l": -3, "g": -2}) == "It holds at clip skip 2 for all text encoders."


def test_the_remedy_names_what_would_do_for_all_encoders():
    record = PrefixRecord("sdxl", "", layers={"l": [-3, -2, -1], "g": [-2, -1]})
    with pytest.raises(PrefixMismatchError, match="CLIP Set Last Layer to -1 or -2, or train"):
        require_layers(record, {"g": -3}, {"l": -2, "g": -2}, _remedy)
