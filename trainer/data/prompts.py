"""Makes prompts that name people, their neutral twins, and others.

The form of the name prompts and their openings are docs/METHODS.md 1.2.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    "a red circle on a white background",
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
)
"""Prompts that name nobody, for models of every kind."""


def name_prompt(identity: Identity, opening: str, context: str) -> str:
    """The prompt that names the person."""
    return f"{opening}{identity.name} {context}".rstrip()


def neutral_prompt(identity: Identity, opening: str, context: str) -> str:
    """The twin of `name_prompt` with the anonymous description in place of the name."""
    return f"{opening}{identity.description} {context}".rstrip()


def general_prompts(text: str, identities: Iterable[Identity]) -> tuple[str, ...]:
    """The prompts that the prefix must leave alone, each once.

    These are the artist's own, one a line, or the built-in list if there are none. Always among them are the empty
    prompt and portraits of the identities' descriptions: looks must stay where nobody is named.

    Args:
        text: the artist's prompts; blank lines and lines that begin with `#` are skipped.
        identities: the people whose descriptions are added.

    Raises:
        ListError: the text is no list of prompts.
    """
    own = lines_of(text)
    described = [f"A portrait of {identity.description}" for identity in identities]
    return tuple(dict.fromkeys(["", *(own or GENERAL_PROMPTS), *described]))


def lines_of(text: str) -> tuple[str, ...]:
    """The prompts of a text, one a line, each once; blank lines and lines that begin with `#` are skipped.

    Raises:
        ListError: see `prompt_list.prompts_of`.
    """
    return prompts_of(text)
