"""Pictures are drawn from what every text encoder of a checkpoint read with the prefix."""

from __future__ import annotations

import pytest

from anonymize_faces.prefix import PrefixMismatchError
from anonymize_faces.scripts.webui.protection import MOST_NOTED, PromptGuard, Protection, RequestedProtection
from anonymize_faces.tests.support.prefixes import demo_prefix

REFUSED = "did not go through the text encoders"
PROTECTION = Protection("people.safetensors", demo_prefix())


def made(guard: PromptGuard, read: str, there: str) -> list[str]:
    """What the host makes of a prompt while some text encoders read it, of those that there are."""

    def make() -> list[str]:
        for key in read.split():
            guard.witness(key)
        return [read]

    return guard.made(make, there.split)


@pytest.mark.parametrize(
    ("read", "there", "is_protected"),
    [
        ("l", "l", True),
        ("l g", "l g", True),
        ("l", "l g", False),
        ("", "l", False),
        ("l g", "l g t5xxl", True),  # The host's option leaves SD 3's T5 out.
        ("l t5xxl", "l g t5xxl", False),
        ("l", "l t5xxl", False),  # Flux' T5 says what is drawn.
        ("t5xxl", "t5xxl", True),
    ],
)
def test_all_of_them_must_have_read_it_but_what_the_host_leaves_out(read: str, there: str, is_protected: bool) -> None:
    guard = PromptGuard()
    with guard.scope(RequestedProtection(PROTECTION)):
        if is_protected:
            guard.require_noted([made(guard, read, there), None])
        else:
            with pytest.raises(PrefixMismatchError, match=REFUSED):
                made(guard, read, there)
    assert made(guard, read, there) == [read]  # Nothing is in force.


def test_what_was_read_for_one_prompt_says_nothing_of_another() -> None:
    guard = PromptGuard()
    with guard.scope(RequestedProtection(PROTECTION)):
        one = made(guard, "l", "l")
        with pytest.raises(PrefixMismatchError, match=REFUSED):
            made(guard, "", "l")
        for drawn_from in ([], [None, None], [one, ["l"]]):
            with pytest.raises(PrefixMismatchError, match=REFUSED):
                guard.require_noted(drawn_from)


def test_what_is_forgotten_is_not_kept_by_the_host_and_what_is_in_use_is_not_forgotten() -> None:
    guard = PromptGuard()
    with guard.scope(RequestedProtection(PROTECTION)):
        kept, unused, under = made(guard, "l", "l"), made(guard, "l", "l"), guard.kept_under(PROTECTION)
        for _ in range(3 * MOST_NOTED):
            assert guard.made(lambda: kept, "l".split) is kept  # As a host gives what it has kept.
            guard.require_noted([kept, made(guard, "l", "l")])
        with pytest.raises(PrefixMismatchError, match=REFUSED):
            guard.require_noted([unused])
        assert guard.kept_under(PROTECTION) != under
