"""Puts guards into a workflow, or refuses it, so that no prompt reaches the sampler unprotected.

Every wire that may carry a text encoder or conditioning is led through a *guard*, a node of ours that looks at what
really comes: a CLIP leaves it protected, conditioning passes if a protected CLIP made it (see `guards`). So it does not
matter what wires are called, or whether they run through switches, lists, pipes, lazy inputs or nodes of other
extensions. What the graph alone shows to be beyond that is refused, with the reason.

The host's own nodes turn text into conditioning through their CLIP socket only. Nodes of other extensions may do
anything with text: those that get some may hand on text, numbers, a CLIP or conditioning, all of which are looked at,
and nothing else, unless the server's operator trusts them. Knows no host module.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...prefix.errors import AnonymizationError

HOST, OWN, SERVICE, FOREIGN = "host", "own", "service", "foreign"

GUARD_OF_TYPE = {"CLIP": "EnforcedCLIP", "CONDITIONING": "EnforcedConditioning"}
GUARD = "EnforcedAny"
GUARDS = frozenset({*GUARD_OF_TYPE.values(), GUARD})

PROTECTING = "AnonymizeFaces"
FACE_REGION = "AnonymizeFaceRegion"
UNPROTECTED = {
    "TrainAnonymizationPrefix": "Learning a prefix draws people without protection, and this server must anonymize"
    " every prompt: learn it on another one and bring the file here.",
    "EvaluateAnonymization": "Evaluating a prefix draws people without protection, to compare with, and this server"
    " must anonymize every prompt: evaluate it on another one.",
    "CompareStrengths": "Comparing strengths draws people without protection as well, and this server must anonymize"
    " every prompt: compare them on another one.",
    "ProtectPhotos": "Protecting photos reads prompts without protection, and this server must anonymize every prompt:"
    " protect them on another one.",
    "MeasurePhotoProtection": "Measuring how photos are protected trains a model on a person and draws them, and this"
    " server must anonymize every prompt: measure it on another one.",
    "FineTuneOnCaptions": "Fine-tuning reads captions and draws prompts without protection, and this server must"
    " anonymize every prompt: fine-tune on another one and bring the LoRA here.",
    FACE_REGION: "Anonymize Face Region leaves all but faces unprotected, and this server must anonymize every prompt"
    " as a whole: use Anonymize Faces, or ask the server's operator to allow it.",
    "LearnExperts": "Learning experts draws prompts without protection, and this server must anonymize every prompt:"
    " learn them on another one and bring the file here.",
}
"""Nodes of ours that have to draw with the plain text encoder, and what is said of them."""

PLAIN = frozenset(
    "IMAGE LATENT MASK MODEL VAE INT FLOAT BOOLEAN STRING SIGMAS NOISE SAMPLER GUIDER AUDIO VIDEO CONTROL_NET"
    " CLIP_VISION CLIP_VISION_OUTPUT UPSCALE_MODEL STYLE_MODEL HOOKS HOOK_KEYFRAMES GLIGEN PHOTOMAKER MESH VOXEL"
    " IDENTITIES ANONYMIZATION_PREFIX PROMPT_EXPERTS".split()
)
"""What the host's and our own nodes put out that is neither a text encoder nor conditioning."""

TEXTUAL = frozenset("STRING INT FLOAT BOOLEAN CLIP CONDITIONING * COMBO".split())
"""What a node of another extension that gets text may put out: guards look at all of it."""

NO_TEXT = frozenset(
    "SVD_img2vid_Conditioning StableZero123_Conditioning StableZero123_Conditioning_Batched SV3D_Conditioning"
    " LotusConditioning Hunyuan3Dv2Conditioning Hunyuan3Dv2ConditioningMultiView SeedVR2Conditioning"
    " Trellis2Conditioning Pixal3DConditioning TripoSplatConditioning".split()
)
"""The host's nodes that make conditioning of pictures, or of nothing, and of no text."""


class PromptRefusedError(AnonymizationError):
    """A prompt that cannot be protected; its text is the reason, for whoever queued it.

    Attributes:
        node_id: the node at fault.
    """

    def __init__(self, node_id: str, reason: str) -> None:
        super().__init__(reason)
        self.node_id = node_id


@dataclass(frozen=True)
class Kind:
    """What is known of a class of nodes.

    Attributes:
        origin: HOST, OWN, SERVICE (sends prompts elsewhere) or FOREIGN.
        outputs: types of its outputs.
        sources: names of its inputs for a CLIP or conditioning.
        needs_no_source: whether it runs with none of these connected.
        texts: names of its inputs for text.
        choices: what can be chosen, by the name of the input.
        shows: whether it is run for its own sake, because it saves or shows something.
        reads_workflow: whether the host hands it the whole workflow, with every text in it.
    """

    origin: str
    outputs: tuple[str, ...] = ()
    sources: Collection[str] = ()
    needs_no_source: bool = True
    texts: Collection[str] = ()
    choices: Mapping[str, Collection[Any]] = field(default_factory=dict)
    shows: bool = False
    reads_workflow: bool = False


Prompt = dict[str, dict[str, Any]]


def rewrite(
    prompt: Any,
    kind_of: Callable[[str], Kind | None],
    trusted: Collection[str] = (),
    fault: str | None = None,
    allowed: Collection[str] = (),
) -> Prompt:
    """The prompt with a guard on every wire that needs one; the one given stays as it is.

    Args:
        prompt: as the API takes it, from anybody.
        kind_of: what is known of a class; None if there is none of that name, which the host refuses itself.
        trusted: ids of nodes of other extensions that are taken for the host's.
        fault: why nothing can be protected; None if it can.
        allowed: those of `UNPROTECTED` that the operator allows.

    Raises:
        PromptRefusedError: it cannot be protected.
    """
    nodes = _without_guards(_canonical(prompt))
    kinds = {class_type: kind_of(class_type) for class_type in {node["class_type"] for node in nodes.values()}}
    if any(kind is None for kind in kinds.values()):
        return nodes
    graph = _Graph(nodes, {name: kind for name, kind in kinds.items() if kind is not None}, frozenset(trusted), allowed)
    graph.check()
    guarded = graph.guarded()
    if fault is not None and len(guarded) > len(nodes):
        raise PromptRefusedError(next(iter(nodes)), fault)
    return guarded


def link_of(value: Any) -> tuple[str, Any] | None:
    """Where a wire comes from, by the host's own rule; None if the value is none."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | float):
        return value[0], value[1]
    return None


class _Graph:
    def __init__(
        self, nodes: Prompt, kinds: Mapping[str, Kind], trusted: frozenset[str], allowed: Collection[str]
    ) -> None:
        self._nodes = nodes
        self._allowed = allowed
        self._kinds = kinds
        self._trusted = trusted
        self._texts: dict[str, bool] = {}
        for node_id, node in nodes.items():
            for value in node["inputs"].values():
                self._require_sound(node_id, link_of(value))

    def check(self) -> None:
        for node_id, node in self._nodes.items():
            self._check(node_id, node["class_type"], self._kind(node_id))

    def guarded(self) -> Prompt:
        """The nodes with their guards."""
        result: Prompt = {}
        made: dict[tuple[str, int], str] = {}
        guards: Prompt = {}
        for node_id, node in self._nodes.items():
            inputs = dict(node["inputs"])
            for name, value in inputs.items():
                link = link_of(value)
                if link is not None and self._needs_guard(*link):
                    if link not in made:
                        made[link] = _free_id(len(made), self._nodes)
                        guards[made[link]] = self._guard(*link)
                    inputs[name] = [made[link], 0]
            result[node_id] = {**node, "inputs": inputs}
            if node["class_type"] == PROTECTING and link_of(inputs.get("clip")):
                # Whatever it was to protect with, and how strongly: here it is a guard like the others.
                result[node_id] |= {"class_type": GUARD_OF_TYPE["CLIP"], "inputs": _settings(inputs["clip"])}
        return result | guards

    def _kind(self, node_id: str) -> Kind:
        return self._kinds[self._nodes[node_id]["class_type"]]

    def _is_known(self, node_id: str) -> bool:
        return self._kind(node_id).origin != FOREIGN or self._nodes[node_id]["class_type"] in self._trusted

    def _require_sound(self, node_id: str, link: tuple[str, Any] | None) -> None:
        if link is None:
            return
        source, slot = link
        if source not in self._nodes:
            raise PromptRefusedError(
                node_id, f"A wire comes from node '{source[:60]}', which is not there: connect it anew."
            )
        if type(slot) is not int or not 0 <= slot < len(self._kind(source).outputs):
            raise PromptRefusedError(
                node_id, f"A wire comes from an output that node '{source[:60]}' has not: connect it anew."
            )

    def _check(self, node_id: str, class_type: str, kind: Kind) -> None:
        if class_type in UNPROTECTED and class_type not in self._allowed:
            raise PromptRefusedError(node_id, UNPROTECTED[class_type])
        if class_type in self._trusted:
            return
        if kind.origin == SERVICE:
            raise PromptRefusedError(
                node_id,
                f"'{class_type}' sends the prompt to a service elsewhere, where nothing anonymizes it: leave it out.",
            )
        if "CONDITIONING" in kind.outputs and class_type not in NO_TEXT and not self._has_source(node_id):
            raise PromptRefusedError(
                node_id,
                f"'{class_type}' brings conditioning that no protected CLIP made, from a file or an encoder of its own:"
                " encode the prompt with CLIP Text Encode.",
            )
        if kind.origin == FOREIGN and self._gets_text(node_id):
            others = [name for name in kind.outputs if not set(name.split(",")) <= TEXTUAL]
            if others or kind.shows:
                does = f"makes {others[0]} of" if others else "saves or shows what it makes of"
                raise PromptRefusedError(
                    node_id,
                    f"'{class_type}' {does} text by itself, and nobody can see whether it is anonymized on the way: use"
                    " ComfyUI's own nodes for that step, or ask the server's operator to trust this node.",
                )

    def _has_source(self, node_id: str) -> bool:
        """Whether what it makes can be derived from a CLIP or conditioning that a guard has seen."""
        wires = {name: link for name, value in self._nodes[node_id]["inputs"].items() if (link := link_of(value))}
        if self._is_known(node_id):
            return not wires.keys().isdisjoint(self._kind(node_id).sources)
        return any(self._type(*link) not in PLAIN for link in wires.values())  # Its output is looked at.

    def _type(self, source: str, slot: int) -> str:
        return self._kind(source).outputs[slot]

    def _needs_guard(self, source: str, slot: int) -> bool:
        if self._nodes[source]["class_type"] == PROTECTING and link_of(self._nodes[source]["inputs"].get("clip")):
            return False
        return not self._is_known(source) or self._type(source, slot) not in PLAIN

    def _guard(self, source: str, slot: int) -> dict[str, Any]:
        known = self._is_known(source)
        settings = _settings([source, slot], derived=known, only_text=not known and self._gets_text(source))
        return {"class_type": GUARD_OF_TYPE.get(self._type(source, slot), GUARD), "inputs": settings}

    def _gets_text(self, node_id: str) -> bool:
        if node_id not in self._texts:
            self._texts[node_id] = True  # In a circle, whatever goes round may be text.
            kind, inputs = self._kind(node_id), self._nodes[node_id]["inputs"]
            self._texts[node_id] = kind.reads_workflow or any(
                self._is_text(kind, name, value) for name, value in inputs.items()
            )
        return self._texts[node_id]

    def _is_text(self, kind: Kind, name: str, value: Any) -> bool:
        link = link_of(value)
        if link is None:
            if value is None or isinstance(value, bool | int | float):
                return False
            return not isinstance(value, str) or value not in kind.choices.get(name, ())
        types = set(self._type(*link).split(","))
        if types & {"STRING", "COMBO"}:
            return True
        return not types <= PLAIN | GUARD_OF_TYPE.keys() and self._gets_text(link[0])


def _settings(link: list[Any], derived: bool = True, only_text: bool = False) -> dict[str, Any]:
    return {"value": link, "derived": derived, "only_text": only_text}


def _free_id(number: int, taken: Collection[str]) -> str:
    made = f"anonymize-faces-{number}"
    while made in taken:
        made += "-"
    return made


def _canonical(prompt: Any) -> Prompt:
    """The prompt with nothing in it but what the host needs, and every wire written as one."""
    if not isinstance(prompt, dict) or not prompt:
        raise PromptRefusedError("0", "This is no workflow: it has no nodes.")
    nodes: Prompt = {}
    for node_id, node in prompt.items():
        if (
            not isinstance(node, dict)
            or not isinstance(node.get("class_type"), str)
            or not isinstance(node.get("inputs"), dict)
        ):
            raise PromptRefusedError(str(node_id), "This is no node: it has no class, or no table of inputs.")
        kept = {key: node[key] for key in ("class_type", "_meta") if key in node}
        nodes[str(node_id)] = kept | {"inputs": {name: _unwrapped(value) for name, value in node["inputs"].items()}}
    return nodes


def _unwrapped(value: Any) -> Any:
    """A wire that is wrapped up as a value is a wire to the host once it has unwrapped it."""
    inner = value
    while isinstance(inner, dict) and "__value__" in inner:
        inner = inner["__value__"]
    return inner if link_of(inner) is not None else value


def _without_guards(nodes: Prompt) -> Prompt:
    """The nodes without guards of an earlier rewriting; whoever was wired to one is wired to what it guarded."""

    def source(link: Any, passed: frozenset[str]) -> Any:
        found = link_of(link)
        if found is None or found[0] not in nodes or nodes[found[0]]["class_type"] not in GUARDS:
            return link
        if found[0] in passed:
            raise PromptRefusedError(found[0], "This workflow runs in a circle: connect it anew.")
        return source(nodes[found[0]]["inputs"].get("value"), passed | {found[0]})

    return {
        node_id: {**node, "inputs": {name: source(value, frozenset()) for name, value in node["inputs"].items()}}
        for node_id, node in nodes.items()
        if node["class_type"] not in GUARDS
    }
