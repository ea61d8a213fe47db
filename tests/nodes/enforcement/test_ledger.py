"""The ledger knows what protected encoders made, where it may stand."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.fixture
def ledger(host_modules: None) -> Any:
    from anonymize_faces.nodes.enforcement.guards import Ledger

    return Ledger()


def test_it_knows_the_very_tensors_in_whatever_holds_them(ledger: Any) -> None:
    states, pooled = torch.zeros(1, 2, 3), torch.zeros(1, 3)
    ledger.enter((states, {"pooled_output": pooled}))
    assert ledger.knows([states, {"pooled_output": pooled, "mask": torch.ones(2), "strength": 1.0}])
    assert not ledger.knows([states.clone(), {}])
    assert not ledger.knows([states, {"pooled_output": pooled.clone()}])
    assert not ledger.knows([states, {"model_conds": {}}])


def test_what_is_drawn_outside_of_faces_is_known_in_its_place_alone(ledger: Any) -> None:
    from anonymize_faces.engines.comfy.face_blending import PLAIN

    states, plain, pooled = torch.zeros(1, 2, 3), torch.ones(1, 2, 3), torch.ones(1, 3)
    told = [states, {PLAIN: {"of": states, "states": plain, "extras": {"pooled_output": pooled}}}]
    ledger.enter(told)
    assert ledger.knows(told) and ledger.knows([states, {}])
    assert not ledger.knows([plain, {}])
    assert not ledger.knows([states, {"pooled_output": pooled}])
    assert not ledger.knows([states, {PLAIN: {"of": states, "states": plain.clone(), "extras": {}}}])
