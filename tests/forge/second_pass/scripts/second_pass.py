"""Without this extension nobody would see what becomes of second passes: it draws pictures again, as ADetailer does.

Like ADetailer it makes a request of its own within the first one, keeps only scripts that it knows, and so drops ours.
"""

import copy

from modules import processing, scripts


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
