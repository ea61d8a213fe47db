"""Makes prompts of common words about things and about people whom nobody names, for a gate to be fitted to.

What tells names from all else must know what else there is. The built-in general prompts are too few for that: a word
that is in none of them, and that a model knows well, may look like a name. These are never drawn, so there can be many
(docs/METHODS.md 2.9).
"""

from __future__ import annotations

from collections.abc import Sequence

from .long_prompts import Choose

_THINGS = """
apple arm bag ball banana basket bath beach bed bell bench bicycle bird blanket boat bone book boot bottle bowl box
branch bread bridge broom brush bucket building bus butter button cake camera candle car card carpet cart castle cat
chain chair cheese church clock cloud coat coin comb cow cup curtain desk dog door drawer dress drum ear egg engine eye
farm feather fence field fire fish flag floor flower fly fork forest fox frog fruit garden gate glass glove goat grass
guitar hammer hand harbour hat hill hook horse hospital house ice island jar key kettle knife ladder lake lamp leaf leg
letter library light lion lock map market match meat milk mirror monkey moon mountain mouse nail needle nest net
newspaper nut ocean onion orange oven pen pencil piano pig pillow pipe plane plant plate pocket pot potato rabbit rail
rain ring river rock roof room root rope sail salt school scissors sea seed sheep shelf ship shirt shoe shop snake snow
soap sock spoon stamp station stick stone store storm street sun table tail tent ticket tiger tomato tooth towel tower
town train tree truck tunnel umbrella valley vase village wall watch waterfall wheel whistle window wing wolf wood worm
""".split()
_QUALITIES = "red blue green yellow black white small large old new dark bright round wooden golden broken".split()
_WHERE = (
    "on a table",
    "on the floor",
    "on a hill",
    "by the sea",
    "by a river",
    "at night",
    "at noon",
    "under snow",
    "in the rain",
    "in a wood",
    "under the sky",
)
_THING_OPENINGS = ("", "a photo of ", "an image of ", "a sketch of ", "an oil painting of ", "a close-up of ")

_PEOPLE = (
    *("man", "woman", "person", "boy", "girl", "child", "teenager", "old man", "old woman", "young man", "young woman"),
    *("couple", "crowd", "doctor", "nurse", "teacher", "farmer", "sailor", "soldier", "dancer", "singer", "painter"),
    *("baker", "student", "tourist", "stranger", "neighbour"),
)
_HAIR = "black brown blond red grey white dark fair curly straight long short".split()
_FEATURES = (
    *("glasses", "no glasses", "a beard", "no beard", "a moustache", "freckles", "a scar", "wrinkles", "earrings"),
    *("blue eyes", "brown eyes", "green eyes", "pale skin", "dark skin", "tan skin", "round cheeks", "a long nose"),
    *("thin lips", "a hat", "a red scarf", "a blue coat", "a tattoo", "a wide smile", "a serious look"),
)
_MOST_FEATURES = 4
_POSES = ("", "", "at a window", "in a garden", "at night", "in the street", "by the sea", "facing us", "smiling")
_PORTRAIT_OPENINGS = ("", "a photo of ", "a portrait of ", "a close-up portrait of ", "the face of ")


def prompts_of_things(count: int, choose: Choose) -> tuple[str, ...]:
    """So many prompts of a thing each, of as many different things as there are.

    Args:
        choose: draws a number below the one given.
    """
    first = choose(len(_THINGS))
    return tuple(
        f"{_one(_THING_OPENINGS, choose)}{_thing(_THINGS[(first + place) % len(_THINGS)], choose)}".strip()
        for place in range(count)
    )


def prompts_of_people(count: int, choose: Choose) -> tuple[str, ...]:
    """So many prompts of people who are described, and whom nobody names.

    Args:
        choose: draws a number below the one given.
    """
    return tuple(f"{_one(_PORTRAIT_OPENINGS, choose)}{_described(choose)}".strip() for _ in range(count))


def _thing(thing: str, choose: Choose) -> str:
    said = f"{_one(_QUALITIES, choose)} {thing}" if choose(2) else thing
    return f"{_with_article(said)} {_one(_WHERE, choose) if choose(2) else ''}"


def _described(choose: Choose) -> str:
    features = [f"{_one(_HAIR, choose)} hair"] if choose(2) else []
    features += [_one(_FEATURES, choose) for _ in range(choose(_MOST_FEATURES))]
    *before, last = dict.fromkeys(features) or [""]
    said = f" with {', '.join(before)}{' and ' if before else ''}{last}" if last else ""
    return f"{_with_article(_one(_PEOPLE, choose))}{said} {_one(_POSES, choose)}"


def _with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _one(options: Sequence[str], choose: Choose) -> str:
    return options[choose(len(options))]
