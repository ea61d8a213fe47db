"""Makes prompts that name people, their neutral twins, and others.

The form of the name prompts and their openings are docs/METHODS.md 1.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, zip_longest

from .identities import Identity
from .prompt_list import prompts_of

OPENINGS = (
    "",
    "A photo of ",
    "A portrait of ",
    "A close-up photo of ",
    "A close-up portrait of ",
)

CONTEXTS = (
    "",
    "",
    "smiling",
    "looking at the camera",
    "in a garden",
    "in a library",
    "on a busy street",
    "at the beach",
    "in front of a white wall",
    "in soft evening light",
    "wearing a dark coat",
    "with a serious expression",
)
"""What follows a name. The bare name is the most frequent prompt, so the empty context stands here twice."""

NEGATIVES = (
    "",
    "blurry, low quality, watermark, text",
    "bad anatomy, extra fingers, deformed hands, ugly",
    "lowres, jpeg artifacts, worst quality, signature",
    "cartoon, painting, illustration, 3d render",
    "nsfw, cropped, out of frame, duplicate",
)
"""Nothing, and what artists put into the negative prompt, so that a prefixed negative prompt does no harm."""

GENERAL_PROMPTS = (
    *NEGATIVES,
    # People whom nobody names: the prefix must leave them as they are.
    "a photo of a person",
    "a portrait of a man",
    "a portrait of a woman",
    "a close-up portrait of an old man with a white beard",
    "a close-up photo of a young woman with freckles and red hair",
    "a man with short black hair and glasses",
    "a woman with long blond hair and blue eyes",
    "a portrait of a bald man with dark skin",
    "a middle-aged woman with curly brown hair, smiling",
    "a teenage boy with headphones",
    "a little girl holding a balloon",
    "a baby asleep in a blanket",
    "a doctor in a white coat",
    "a firefighter in front of a fire engine",
    "a ballerina on a stage",
    "a chef cooking in a restaurant kitchen",
    "a bride and a groom under an arch of flowers",
    "a crowd of people at a concert",
    "a group of friends around a campfire",
    "a family at the dinner table",
    "two children playing chess",
    "a football team celebrating",
    "an astronaut riding a horse",
    "a knight in shining armour",
    "a wizard with a long beard and a staff",
    "the hands of a potter at the wheel",
    "the silhouette of a dancer at sunset",
    # Animals.
    "a cat asleep on a windowsill",
    "a golden retriever in the snow",
    "a close-up photo of an owl",
    "a horse galloping through water",
    "a school of tropical fish over a coral reef",
    "an elephant at a water hole",
    "a butterfly on a purple flower",
    "a red fox in an autumn forest",
    "a parrot on a branch, detailed feathers",
    "a dragon above a burning castle",
    # Objects and food.
    "a white ring on a black background",
    "a blue cube on a wooden table",
    "a bowl of ripe oranges",
    "a slice of chocolate cake on a plate",
    "a steaming cup of coffee",
    "a vintage camera, product photo",
    "a red sports car on a mountain road",
    "an old bicycle against a brick wall",
    "a grand piano in an empty hall",
    "a stack of old books and a candle",
    "a bouquet of wild flowers in a vase",
    "a robot made of brass and glass",
    "a wooden sailing ship in a storm",
    "a steam locomotive crossing a bridge",
    "a wristwatch, macro photograph",
    "a sign that says hello",
    # Scenes.
    "a mountain lake at dawn, reflections",
    "a foggy pine forest",
    "a desert with sand dunes under a starry sky",
    "waves breaking on black rocks",
    "a waterfall in a jungle",
    "a field of sunflowers under a blue sky",
    "northern lights over a frozen fjord",
    "a city skyline at night, neon lights",
    "a narrow street in an old Italian town",
    "a Japanese garden with a red bridge",
    "a cosy living room with a fireplace",
    "a modern kitchen, interior design",
    "an abandoned factory overgrown with ivy",
    "a lighthouse on a cliff, stormy weather",
    "a futuristic city with flying cars",
    "a space station in orbit around Saturn",
    "the inside of a gothic cathedral",
    "an empty classroom in the morning sun",
    # Styles.
    "an oil painting of a harbour in the style of impressionism",
    "a watercolour of a village in spring",
    "a charcoal sketch of an old tree",
    "a pencil drawing of a hand",
    "an ink drawing of bamboo",
    "a woodcut of a great wave",
    "a stained glass window with a peacock",
    "a low-poly 3d render of an island",
    "pixel art of a treasure chest",
    "an isometric illustration of a tiny house",
    "a comic book panel with an explosion",
    "anime girl with silver hair, detailed eyes",
    "a surreal painting of melting clocks",
    "an abstract composition of coloured shapes",
    "a geometric pattern in gold and navy",
    "a vintage travel poster of a seaside town",
    "a marble statue of a goddess",
    "a black and white photograph of a rainy street",
    "a macro photo of a dew drop on a leaf",
    "an aerial photo of a river delta",
    "cinematic still, dramatic lighting, shallow depth of field, 35mm",
    "masterpiece, best quality, highly detailed, sharp focus",
    # A few words.
    "a tree",
    "a stone",
    "an old house by a river",
    "a white boat on a lake",
    "a grey car in the street",
    "a blue flower",
    "a star in the dark sky",
    "a green square",
    "three yellow circles",
    "a glass cup on a table",
    "a path through a field",
    "clouds",
    "fog over hills",
    # Places by name.
    "the Eiffel Tower in spring",
    "the Golden Gate Bridge in fog",
    "a street market in Marrakesh",
    "Mount Fuji behind cherry blossoms",
    "Times Square on New Year's Eve",
    "the canals of Venice, oil on canvas",
    "a map of Australia",
    "Washington in winter",
    # Brands.
    "a can of Coca-Cola on ice",
    "a pair of Nike sneakers, studio light",
    "a Volkswagen van at a camp site",
    "a LEGO castle",
    "a Leica camera on a desk",
    "a Tesla charging in a garage",
    # Artists: whose hand it is in, not who is seen.
    "a wheat field in the style of Vincent van Gogh",
    "water lilies by Claude Monet",
    "a village in the snow by Pieter Bruegel",
    "a still life by Paul Cézanne",
    "a forest spirit, concept art by Hayao Miyazaki",
    "a poster in the manner of Alphonse Mucha",
    # Characters: named, and nobody.
    "Pikachu on a skateboard",
    "Mickey Mouse at the piano",
    "Super Mario jumping over a pipe",
    "Darth Vader in a desert",
    "Totoro under an umbrella",
    "Sherlock Holmes in the fog, engraving",
    "the Statue of Liberty as a comic hero",
    # Tags.
    "1girl, solo, silver hair, school uniform, looking at viewer, smile",
    "1boy, armor, sword, cape, dynamic pose, night",
    "scenery, no humans, ruins, overgrown, sunlight, river",
    "food focus, no humans, strawberry cake, plate, fork",
    "cat, black fur, yellow eyes, sitting, window, rain",
    "score_9, score_8_up, mecha, city, explosion",
    # Long ones, as language models write and read them.
    "A quiet reading room with tall windows, long oak tables and green lamps; dust floats in the afternoon light, and"
    " rows of leather-bound books fill the shelves up to the painted ceiling.",
    "An overhead view of a breakfast table: two fried eggs, a sliced avocado, toast with butter, a jar of honey and a"
    " pot of tea on a blue linen cloth, with soft shadows and natural colours.",
    "A woman in a yellow raincoat stands at the end of a wooden pier and looks at the sea, seen from behind, while"
    " gulls circle above the waves and a small fishing boat comes home under dark clouds.",
    "A detailed cutaway drawing of an old submarine, with crew bunks, an engine room, pipes and valves, labelled in"
    " neat handwriting on yellowed paper, in the manner of a technical manual.",
)
"""Prompts that name nobody whom a prefix is for, for models of every kind. None of them is asked about where a prefix
is measured (tests/trainer/data/test_prompts.py)."""

KINDS_APART = 11
"""General prompts are put so that neighbours in the list come so far apart: a few from the front are of all kinds."""


def name_prompt(identity: Identity, opening: str, context: str) -> str:
    """The prompt that names the person."""
    return f"{opening}{identity.name} {context}".rstrip()


def neutral_prompt(identity: Identity, opening: str, context: str) -> str:
    """The twin of `name_prompt` with the anonymous description in place of the name."""
    return f"{opening}{identity.description} {context}".rstrip()


def general_prompts(text: str, identities: Iterable[Identity]) -> tuple[str, ...]:
    """The prompts that the prefix must leave alone, each once.

    The empty prompt comes first, then by turns the artist's own, one a line, and the others, which are by turns the
    built-in ones and portraits of the identities' descriptions: looks must stay where nobody is named. So a few from
    the front are of all kinds, however many the artist has.

    Args:
        text: the artist's prompts; blank lines and lines that begin with `#` are skipped.
        identities: the people whose descriptions are added.

    Raises:
        ListError: the text is no list of prompts.
    """
    described = dict.fromkeys(f"A portrait of {identity.description}" for identity in identities)
    built_in = [prompt for start in range(KINDS_APART) for prompt in GENERAL_PROMPTS[start::KINDS_APART]]
    return tuple(dict.fromkeys(["", *_by_turns(lines_of(text), _by_turns(built_in, described))]))


def _by_turns(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """One of either by turns, then what is left of the longer."""
    return [prompt for prompt in chain.from_iterable(zip_longest(one, other)) if prompt is not None]


def lines_of(text: str) -> tuple[str, ...]:
    """The prompts of a text, one a line, each once; blank lines and lines that begin with `#` are skipped.

    Raises:
        ListError: see `prompt_list.prompts_of`.
    """
    return prompts_of(text)
