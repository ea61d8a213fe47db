"""What other people's extensions might bring: a test copies this file into a server's custom nodes.

It also writes down, for each run of a sampler, the conditioning that reaches it.
"""

import os
import uuid
from pathlib import Path

import comfy.samplers
import torch

import nodes

_inner_set_conds = comfy.samplers.CFGGuider.inner_set_conds


def _record(self, conds):
    tensors = [[pair[0] for pair in cond] for cond in conds.values()]
    torch.save(tensors, Path(os.environ["RECORDS"]) / f"{uuid.uuid4().hex}.pt")
    return _inner_set_conds(self, conds)


comfy.samplers.CFGGuider.inner_set_conds = _record


class Any(str):
    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


ANY = Any("*")
TEXT = ("STRING", {"default": ""})


def raw_clip():
    """A text encoder that no wire has carried."""
    return nodes.NODE_CLASS_MAPPINGS["LoadDemoModel"].execute().result[1]


def make(name, outputs, function, required=None, optional=None, **more):
    body = {
        "INPUT_TYPES": classmethod(
            lambda cls: {"required": required or {}, "optional": optional or {}, "hidden": more.get("hidden", {})}
        ),
        "RETURN_TYPES": outputs,
        "FUNCTION": "run",
        "CATEGORY": "foreign",
        "OUTPUT_NODE": more.get("shows", False),
        "OUTPUT_IS_LIST": more.get("lists", (False,) * len(outputs)),
        "run": lambda self, **inputs: function(**inputs),
    }
    if "lazy" in more:
        body["check_lazy_status"] = lambda self, **inputs: more["lazy"](**inputs)
    return type(name, (), body)


def encode(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def draws(text):
    return (torch.zeros(1, 64, 64, 3),)


def expands(text, clip=None):
    graph = {
        "x-load": {"class_type": "LoadDemoModel", "inputs": {}},
        "x-text": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["x-load", 1], "text": text}},
    }
    return {"result": (["x-text", 0],), "expand": graph}


def expands_clip():
    return {"result": (["y-load", 1],), "expand": {"y-load": {"class_type": "LoadDemoModel", "inputs": {}}}}


def goes_inside(clip, text):
    """As some encoders do: past the tokenizer and the encoder that the CLIP shows, to those within."""
    tokens = clip.tokenizer.clip_l.tokenize_with_weights(text)
    cond, pooled = clip.cond_stage_model.clip_l.encode_token_weights(tokens)
    return ([[cond, {"pooled_output": pooled}]],)


def takes_the_weights(clip, text):
    """The host's handle on the weights, which knows of no protection."""
    tokens = clip.tokenizer.clip_l.tokenize_with_weights(text)
    cond, pooled = clip.patcher.model.encode_token_weights({"l": tokens})
    return ([[cond, {"pooled_output": pooled}]],)


def puts_a_vector_in(clip, text):
    """As nodes that blend or load embeddings do: a vector in the tokens that no text asked for."""
    tokens = clip.tokenize(text)
    width = next(token.shape[0] for chunk in tokens["l"] for token, _ in chunk if torch.is_tensor(token))
    tokens["l"] = [[*chunk[:-1], (torch.ones(width), 1.0)] for chunk in tokens["l"]]
    return (clip.encode_from_tokens_scheduled(tokens),)


class Box:
    def __init__(self, clip):
        self.clip = clip


CLIP, COND = ("CLIP",), ("CONDITIONING",)
LAZY = (ANY, {"lazy": True})
NODE_CLASS_MAPPINGS = {
    "ForeignCLIP": make("ForeignCLIP", CLIP, lambda: (raw_clip(),)),
    "ForeignAny": make("ForeignAny", (ANY,), lambda: (raw_clip(),)),
    "ForeignLies": make("ForeignLies", ("LATENT",), lambda: (raw_clip(),)),
    "ForeignPipe": make("ForeignPipe", ("PIPE",), lambda: ({"clip": raw_clip(), "rest": (1, "x")},)),
    "ForeignUnpipe": make("ForeignUnpipe", CLIP, lambda pipe: (pipe["clip"],), {"pipe": ("PIPE",)}),
    "ForeignBox": make("ForeignBox", ("BOX",), lambda: (Box(raw_clip()),)),
    "ForeignUnbox": make("ForeignUnbox", CLIP, lambda box: (box.clip,), {"box": ("BOX",)}),
    "ForeignList": make("ForeignList", CLIP, lambda: ([raw_clip(), raw_clip()],), lists=(True,)),
    "ForeignSwitch": make(
        "ForeignSwitch", (ANY,), lambda first, **rest: (first,), {"first": (ANY,)}, {"second": (ANY,)}
    ),
    "ForeignLazy": make(
        "ForeignLazy", (ANY,), lambda a=None, b=None: (b,), {"a": LAZY, "b": LAZY}, lazy=lambda a=None, b=None: ["b"]
    ),
    "ForeignText": make("ForeignText", ("STRING",), lambda text: (text,), {"text": TEXT}),
    "ForeignEncode": make(
        "ForeignEncode", COND, lambda clip, text: (encode(clip, text),), {"clip": CLIP, "text": TEXT}
    ),
    "ForeignInside": make("ForeignInside", COND, goes_inside, {"clip": CLIP, "text": TEXT}),
    "ForeignWeights": make("ForeignWeights", COND, takes_the_weights, {"clip": CLIP, "text": TEXT}),
    "ForeignVector": make("ForeignVector", COND, puts_a_vector_in, {"clip": CLIP, "text": TEXT}),
    "ForeignOwnEncoder": make(
        "ForeignOwnEncoder", COND, lambda clip, text: (encode(raw_clip(), text),), {"clip": CLIP, "text": TEXT}
    ),
    "ForeignLoaded": make("ForeignLoaded", COND, lambda: (encode(raw_clip(), "a portrait of Ada Lovelace"),)),
    "ForeignLoadedAny": make("ForeignLoadedAny", (ANY,), lambda: (encode(raw_clip(), "a portrait of Ada Lovelace"),)),
    "ForeignTriples": make("ForeignTriples", (ANY,), lambda: ([[*encode(raw_clip(), "Ada Lovelace")[0], "more"]],)),
    "ForeignIterates": make("ForeignIterates", (ANY,), lambda: (iter(encode(raw_clip(), "Ada Lovelace")),)),
    "ForeignAlters": make("ForeignAlters", COND, lambda c: ([[pair[0] * 1.01, pair[1]] for pair in c],), {"c": COND}),
    "ForeignSetsArea": make(
        "ForeignSetsArea", COND, lambda c: ([[pair[0], {**pair[1], "strength": 0.5}] for pair in c],), {"c": COND}
    ),
    "ForeignDraws": make("ForeignDraws", ("IMAGE",), draws, {"text": TEXT}),
    "ForeignDrawsAny": make("ForeignDrawsAny", (ANY,), draws, {"text": TEXT}),
    "ForeignDrawsWorkflow": make(
        "ForeignDrawsWorkflow", ("IMAGE",), lambda info: draws(str(info)), hidden={"info": "EXTRA_PNGINFO"}
    ),
    "ForeignShows": make("ForeignShows", (), lambda text: (), {"text": TEXT}, shows=True),
    "ForeignExpands": make("ForeignExpands", COND, expands, {"text": TEXT}, {"clip": CLIP}),
    "ForeignExpandsCLIP": make("ForeignExpandsCLIP", CLIP, expands_clip),
    "ForeignEncoder": make("ForeignEncoder", ("ENCODER",), lambda: (raw_clip().cond_stage_model,)),
    "ForeignTakesAny": make("ForeignTakesAny", COND, lambda e, clip=None: (e,), {"e": (ANY,)}, {"clip": CLIP}),
}
