"""Stands in for Automatic1111 and Forge: as much of their interfaces as is hooked.

Faithful in what decides: scripts' callbacks whose exceptions are printed and forgotten, conditionings that are kept
between requests, hires passes, selectable scripts and API requests. A "picture" is the conditioning that would be drawn
from.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from anonymize_faces.tests.support.web_ui import encoders
from anonymize_faces.tools.layout import ROOT

SCRIPT = ROOT / "scripts" / "anonymize_faces.py"
PACKAGE = "anonymize_faces_extension"


@dataclass
class Host:
    """A host that has loaded the script.

    Attributes:
        modules: the stand-in for the host's `modules`, by names.
        script: the module that the host made of our file.
        reported: what the host printed of exceptions in callbacks, and forgot.
        folder: where prefix files lie.
    """

    modules: dict[str, ModuleType]
    folder: Path
    reported: list[str]
    drawn: list[Any]
    script: Any = None

    def __getattr__(self, name: str) -> Any:
        return self.modules[f"modules.{name}"]

    def part(self, name: str) -> Any:
        """A module of the extension, as the host has it."""
        return self.script.part(name)

    def error(self, name: str) -> type[Exception]:
        """A class of errors, as the host has it."""
        return getattr(sys.modules[f"{PACKAGE}.prefix"], name)

    def request(self, prompt: str = "a portrait of Ada", panel: tuple | None = None, **fields: Any) -> Any:
        """A request as the host's own tabs make it; `panel` is (on, prefix, strength)."""
        runner = self.scripts.scripts_txt2img
        p = self.processing.StableDiffusionProcessingTxt2Img(prompt=prompt, **fields)
        p.scripts = runner
        script = next(s for s in runner.alwayson_scripts if type(s).__name__ == "AnonymizeFacesScript")
        args = list(runner.defaults)
        if panel is not None:
            args[script.args_from : script.args_to] = panel
        p.script_args = tuple(args)
        return p

    def draw(self, *args: Any, **kwargs: Any) -> Any:
        """What becomes of a request: the picture, and its infotext."""
        p = self.request(*args, **kwargs)
        processed = self.scripts.scripts_txt2img.run(p, *p.script_args) or self.processing.process_images(p)
        return processed


@contextmanager
def host(folder: Path, kind: str = "forge", family: str = "sd1") -> Iterator[Host]:
    """A host of a kind, `forge` or `automatic`, with a small checkpoint, that loads the script as hosts do."""
    made = modules_of(folder, kind)
    before = dict(sys.modules)
    for name in [n for n in sys.modules if n.partition(".")[0] in ("modules", "backend", PACKAGE)]:
        del sys.modules[name]
    sys.modules.update(made.modules)
    try:
        made.shared.sd_model = model(made, kind, family)
        made.script = load(SCRIPT)
        _register(made, made.script)
        for callback in made.script_callbacks.before_ui:
            callback()
        yield made
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] in ("modules", "backend", "gradio", PACKAGE)]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name not in sys.modules})


def load(path: Path) -> ModuleType:
    """A file, as the hosts load scripts: by its path, under its file name, and into no table."""
    spec = importlib.util.spec_from_file_location(path.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model(made: Host, kind: str, family: str) -> Any:
    """What the host calls `sd_model`: with its readers where each host keeps them."""
    keys = {"sd1": "l", "sd2": "h", "sdxl": "lg", "flux": "l"}[family]
    if kind == "forge":
        engine, t5 = made.engines
        readers = {key: engine(key, key == "g" or family == "flux", family) for key in keys}
        named = {f"text_processing_engine_{key}": reader for key, reader in readers.items()}
        if len(keys) == 1 and family != "flux":
            named = {"text_processing_engine": readers[keys]}
        if family == "flux":
            named["text_processing_engine_t5"] = readers["t5xxl"] = t5()
    else:
        hijack = encoders.Embeddings()
        classes = made.embedders if len(keys) > 1 else {keys: made.embedders["sd1" if keys == "l" else keys]}
        readers = {key: classes[key](key, pooled=key == "g", hijack=hijack) for key in keys}
        if len(keys) > 1:
            sizes = SimpleNamespace(input_key="original_size_as_tuple")
            named = {"conditioner": SimpleNamespace(embedders=[*readers.values(), sizes])}
        else:
            named = {"cond_stage_model": readers[keys]}

    def get_learned_conditioning(texts: list[str]) -> Any:
        with torch.no_grad():
            read = {key: reader(texts) for key, reader in readers.items()}
        states = [output[0] if isinstance(output, tuple) else output for output in read.values()]
        pooled = [output[1] for output in read.values() if isinstance(output, tuple)]
        if len(states) == 1:
            return states[0]
        if family == "flux":
            return {"crossattn": states[1], "vector": pooled[0]}
        return {"crossattn": torch.cat(states, dim=2), "vector": pooled[0]}

    return SimpleNamespace(**named, readers=readers, get_learned_conditioning=get_learned_conditioning, name=family)


def _register(made: Host, script: ModuleType) -> None:
    found = [thing for thing in vars(script).values() if isinstance(thing, type)]
    for cls in found:
        if issubclass(cls, made.scripts.Script):
            made.scripts.scripts_data.append(SimpleNamespace(script_class=cls, module=script))
            made.scripts.scripts_txt2img.add(cls, made.scripts.AlwaysVisible)


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


def modules_of(folder: Path, kind: str) -> Host:
    """The host's modules, before it has loaded any script."""
    names = (
        "patches paths scripts processing shared script_callbacks prompt_parser sd_hijack_clip ui_common api".split()
    )
    modules = {f"modules.{name}": _module(f"modules.{name}") for name in names}
    made = Host(modules, folder / "anonymization_prefixes", [], [])
    made.folder.mkdir(exist_ok=True)
    made.paths.models_path = str(folder)
    made.shared.cmd_opts = SimpleNamespace(embeddings_dir=str(folder / "embeddings"))
    made.shared.opts = SimpleNamespace(CLIP_stop_at_last_layers=1, sdxl_clip_l_skip=False)
    made.ui_common.create_refresh_button = lambda component, refresh, changes, elem_id: None
    callbacks = made.script_callbacks
    callbacks.before_ui, callbacks.app_started = [], []
    callbacks.on_before_ui, callbacks.on_app_started = callbacks.before_ui.append, callbacks.app_started.append
    _fill_patches(made.patches)
    _fill_scripts(made)
    _fill_prompts(made.prompt_parser)
    _fill_processing(made)
    modules["modules.api.api"] = _module("modules.api.api", Api=_api_class())
    if kind == "forge":
        engines = encoders.forge_classes()
        made.engines = engines
        for name in ("backend", "backend.text_processing"):
            modules[name] = _module(name, __path__=[])
        for name, cls in zip(("classic_engine", "t5_engine"), engines, strict=True):
            modules[f"backend.text_processing.{name}"] = _module(name, **{cls.__name__: cls})
    else:
        embedders = encoders.automatic_classes(made.shared.opts)
        made.embedders = embedders
        made.sd_hijack_clip.__dict__.update({cls.__name__: cls for cls in embedders.values()})
    modules["modules"] = _module("modules", __path__=[], **{n: modules[f"modules.{n}"] for n in names})
    modules["gradio"] = _gradio()
    return made


def _fill_patches(patches: ModuleType) -> None:
    originals: dict[Any, dict[Any, Any]] = defaultdict(dict)

    def patch(key: Any, owner: Any, name: str, replacement: Any) -> Any:
        if (owner, name) in originals[key]:
            raise RuntimeError(f"patch for {name} is already applied")
        originals[key][owner, name] = getattr(owner, name)
        setattr(owner, name, replacement)
        return originals[key][owner, name]

    patches.patch = patch
    patches.original = lambda key, owner, name: originals[key].get((owner, name))


def _fill_scripts(made: Host) -> None:
    class Script:
        args_from = args_to = None
        infotext_fields = None
        filename = "script.py"

        def elem_id(self, name: str) -> str:
            return name

        def before_process(self, p: Any, *args: Any) -> None:
            pass

        def process(self, p: Any, *args: Any) -> None:
            pass

        def postprocess_image(self, p: Any, picture: Any, *args: Any) -> None:
            pass

    class ScriptRunner:
        def __init__(self) -> None:
            self.alwayson_scripts: list[Any] = []
            self.selectable_scripts: list[Any] = []
            self.defaults: list[Any] = [0]
            self.infotext_fields: list[Any] = []

        def add(self, cls: type, visibility: Any) -> Any:
            script = cls()
            controls = script.ui(False) if visibility is made.scripts.AlwaysVisible else []
            script.args_from = len(self.defaults)
            self.defaults += [control.value for control in controls or []]
            script.args_to = len(self.defaults)
            self.infotext_fields += script.infotext_fields or []
            always = visibility is made.scripts.AlwaysVisible
            (self.alwayson_scripts if always else self.selectable_scripts).append(script)
            return script

        def run(self, p: Any, *args: Any) -> Any:
            if not args[0]:
                return None
            script = self.selectable_scripts[args[0] - 1]
            return script.run(p, *args[script.args_from : script.args_to])

        def call(self, name: str, p: Any, *args: Any) -> None:
            for script in self.alwayson_scripts:
                try:
                    getattr(script, name)(p, *args, *p.script_args[script.args_from : script.args_to])
                except Exception as error:
                    made.reported.append(f"{name}: {error}")

    made.scripts.Script, made.scripts.ScriptRunner = Script, ScriptRunner
    made.scripts.AlwaysVisible = object()
    made.scripts.scripts_data = [_plot()]
    made.scripts.scripts_txt2img = ScriptRunner()


def _plot() -> SimpleNamespace:
    """The X/Y/Z plot, which is a script like others."""

    @dataclass
    class AxisOption:
        label: str
        type: type
        apply: Callable[..., None]
        confirm: Callable[..., None] | None = None
        choices: Callable[[], list[str]] | None = None

    cls = type("Script", (), {"__module__": "xyz_grid.py"})
    return SimpleNamespace(script_class=cls, module=_module("xyz_grid.py", AxisOption=AxisOption, axis_options=[]))


def _fill_prompts(parser: ModuleType) -> None:
    """Prompts that change on the way, `[a:b:1]`, and prompts that are drawn together, `a AND b`."""

    def get_learned_conditioning(model: Any, prompts: list[str], steps: int) -> list[Any]:
        found = []
        for prompt in prompts:
            cuts = sorted({int(when) for when in re.findall(r"\[[^\]]*:(\d+)\]", prompt)} | {steps})
            texts = [
                re.sub(r"\[([^:\]]*):([^:\]]*):(\d+)\]", lambda m, end=end: m[1] if end <= int(m[3]) else m[2], prompt)
                for end in cuts
            ]
            found.append(list(zip(cuts, _rows(model.get_learned_conditioning(texts), len(texts)), strict=True)))
        return found

    def get_multicond_learned_conditioning(model: Any, prompts: list[str], steps: int) -> list[Any]:
        return [parser.get_learned_conditioning(model, re.split(r"\bAND\b", prompt), steps) for prompt in prompts]

    parser.get_learned_conditioning = get_learned_conditioning
    parser.get_multicond_learned_conditioning = get_multicond_learned_conditioning


def _rows(conditioning: Any, count: int) -> list[Any]:
    if isinstance(conditioning, dict):
        return [{key: value[n] for key, value in conditioning.items()} for n in range(count)]
    return list(conditioning)


def _fill_processing(made: Host) -> None:
    parser, shared = made.prompt_parser, made.shared

    @dataclass
    class StableDiffusionProcessing:
        prompt: str = ""
        negative_prompt: str = ""
        steps: int = 4
        extra_generation_params: dict[str, Any] = field(default_factory=dict)
        override_settings: dict[str, Any] = field(default_factory=dict)

        def __post_init__(self) -> None:
            self.scripts, self.script_args = None, []
            self.cached_c, self.cached_uc = StableDiffusionProcessing.kept_c, StableDiffusionProcessing.kept_uc

        @property
        def sd_model(self) -> Any:
            return shared.sd_model

        def cached_params(self, required_prompts: list[str], steps: int) -> tuple[Any, ...]:
            return (tuple(required_prompts), steps, shared.opts.CLIP_stop_at_last_layers, shared.sd_model.name)

        def get_conds_with_caching(self, function: Any, prompts: list[str], caches: list[list[Any]]) -> Any:
            params = self.cached_params(prompts, self.steps)
            for cache in caches:
                if cache[0] == params:
                    return cache[1]
            for reader in shared.sd_model.readers.values():  # Forge's `set_clip_skip`
                reader.clip_skip = shared.opts.CLIP_stop_at_last_layers
            caches[0][:] = [params, function(shared.sd_model, prompts, self.steps)]
            return caches[0][1]

        def setup_conds(self) -> None:
            read, plain = parser.get_multicond_learned_conditioning, parser.get_learned_conditioning
            self.uc = self.get_conds_with_caching(plain, [self.negative_prompt], [self.cached_uc])
            self.c = self.get_conds_with_caching(read, [self.prompt], [self.cached_c])

    class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
        def __init__(self, hr_prompt: str | None = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.hr_prompt = hr_prompt
            self.cached_hr_c = StableDiffusionProcessingTxt2Img.kept_hr_c

        def sample(self) -> Any:
            made.drawn.append((self.c, self.uc))
            if self.hr_prompt is None:
                return self.c, self.uc
            read = parser.get_multicond_learned_conditioning
            self.hr_c = self.get_conds_with_caching(read, [self.hr_prompt], [self.cached_hr_c, self.cached_c])
            made.drawn.append((self.hr_c, self.uc))
            return self.hr_c, self.uc

    class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
        def sample(self) -> Any:
            made.drawn.append((self.c, self.uc))
            return self.c, self.uc

    StableDiffusionProcessing.kept_c, StableDiffusionProcessing.kept_uc = [None, None], [None, None]
    StableDiffusionProcessingTxt2Img.kept_hr_c = [None, None]

    def process_images(p: Any) -> Any:
        if p.scripts is not None:
            p.scripts.call("before_process", p)
        stored = dict(vars(shared.opts))
        try:
            vars(shared.opts).update(p.override_settings)
            return made.processing.process_images_inner(p)
        finally:
            vars(shared.opts).update(stored)

    def process_images_inner(p: Any) -> Any:
        if p.scripts is not None:
            p.scripts.call("process", p)
        p.setup_conds()
        picture = SimpleNamespace(image=p.sample())
        if p.scripts is not None:
            p.scripts.call("postprocess_image", p, picture)
        return SimpleNamespace(images=[picture.image], infotext=infotext(p))

    for cls in (StableDiffusionProcessing, StableDiffusionProcessingTxt2Img, StableDiffusionProcessingImg2Img):
        setattr(made.processing, cls.__name__, cls)
    made.processing.process_images, made.processing.process_images_inner = process_images, process_images_inner


def infotext(p: Any) -> str:
    """The text that the hosts write into a picture."""
    quoted = {
        key: f'"{value}"' if set(",:") & set(str(value)) else value for key, value in p.extra_generation_params.items()
    }
    return f"{p.prompt}\n" + ", ".join(f"{key}: {value}" for key, value in {"Steps": p.steps, **quoted}.items())


def parse_infotext(text: str) -> dict[str, str]:
    """What the hosts read out of it."""
    pairs = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', text.splitlines()[-1])
    return {key: value.strip('"') for key, value in pairs}


def _api_class() -> type:
    class Api:
        def init_script_args(self, request: Any, runner: Any) -> list[Any]:
            """The defaults, but for what the request gives."""
            args = list(runner.defaults)
            for name, given in (request.alwayson_scripts or {}).items():
                script = next(s for s in runner.alwayson_scripts if s.title().lower() == name.lower())
                if "args" in given:
                    for index, value in enumerate(given["args"][: script.args_to - script.args_from]):
                        args[script.args_from + index] = value
            return args

    return Api


def _gradio() -> ModuleType:
    class Component(SimpleNamespace):
        def __init__(self, *texts: str, **options: Any) -> None:
            super().__init__(**{"value": texts[0] if texts else None, "texts": texts, **options})

        def __enter__(self) -> Component:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        __hash__ = object.__hash__

    kinds = ("Accordion", "Row", "Checkbox", "Dropdown", "Slider", "Markdown")
    return _module("gradio", **{kind: type(kind, (Component,), {}) for kind in kinds})
