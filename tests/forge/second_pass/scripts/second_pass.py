"""Draws pictures again, as ADetailer does: an extension for second passes.

Like ADetailer it makes a request of its own within the first one, keeps only scripts that it knows, and so drops ours.
It also lets the checks press the button of the txt2img tab, and paste an infotext there, without a browser.
"""

import copy
from types import SimpleNamespace

from modules import infotext_utils, processing, script_callbacks, scripts


class SecondPass(scripts.Script):
    """Draws pictures whose prompt has the word "twice" again, from what stands before it."""

    def title(self):
        """As in the API."""
        return "Second pass"

    def show(self, is_img2img):
        """Always."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        """No controls."""
        return []

    def process(self, p, *args):
        """Fails where a prompt asks for it: the host prints the exception and goes on."""
        if "failing callback" in p.prompt:
            raise RuntimeError("this callback fails")

    def postprocess_image(self, p, pp, *args):
        """The second pass."""
        if "twice" not in p.prompt:
            return
        again = processing.StableDiffusionProcessingImg2Img(
            init_images=[pp.image],
            prompt=p.prompt.partition("twice")[0],
            negative_prompt=p.negative_prompt,
            seed=p.seed,
            steps=p.steps,
            width=p.width,
            height=p.height,
            sampler_name=p.sampler_name,
            cfg_scale=p.cfg_scale,
            denoising_strength=0.9,
            do_not_save_samples=True,
            do_not_save_grid=True,
        )
        again.scripts = copy.copy(p.scripts)
        again.scripts.alwayson_scripts = []
        again.script_args = p.script_args
        pp.image = processing.process_images(again).images[0]


def held(block):
    """What a control hands on as long as nobody touches it: a list of some kinds the number of its choice."""
    value = getattr(block, "value", None)
    return block.preprocess(value) if getattr(block, "type", None) == "index" else value


def add_routes(demo, app):
    """What the checks ask for beside the API."""
    panel = next(s for s in scripts.scripts_txt2img.alwayson_scripts if getattr(s, "is_anonymize_faces_panel", False))

    @app.post("/second-pass/paste")
    def paste(body: dict):
        """What the panel's three controls are set to by an infotext; None stays as it is."""
        parameters = infotext_utils.parse_generation_parameters(body["infotext"])
        fields = {field.component: field for field in infotext_utils.paste_fields["txt2img"]["fields"]}
        chosen = [fields[control] for control in panel.controls]
        return [field.function(parameters) if field.function else parameters.get(field.label) for field in chosen]

    @app.post("/second-pass/press")
    def press(body: dict):
        """Presses Generate with the panel's values and everything else as it is; the tab's last output, HTML."""
        button = next(block for block in demo.blocks.values() if getattr(block, "elem_id", "") == "txt2img_generate")
        fn = next(f for f in demo.fns.values() if (button._id, "click") in f.targets and len(f.inputs) > 50)
        given = dict(zip(panel.controls, body["panel"], strict=True))
        small = {"txt2img_steps": 1, "txt2img_width": 64, "txt2img_height": 64, "txt2img_prompt": body["prompt"]}
        values = [given.get(block, small.get(block.elem_id, held(block))) for block in fn.inputs]
        return {"html": fn.fn(values[0], SimpleNamespace(username=None), *values[1:])[-1]}


script_callbacks.on_app_started(add_routes)
