"""Defines the node that loads the embedded demo model, so that everything can be tried without a checkpoint."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

MODELS = ("classic", "modern")
"""`KINDS` of demo/loader.py, which is not loaded at the host's start."""


class LoadDemoModel(io.ComfyNode):
    """MODEL, CLIP and VAE of the demo's small model of invented people."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and words."""
        return io.Schema(
            node_id="LoadDemoModel",
            display_name="Load Demo Model",
            category="anonymize",
            description="A tiny text-to-image model of 64 invented people, 96 x 96 pixels,"
            " that runs on any CPU in seconds."
            " Try training and anonymizing with it before you use your own checkpoint.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(MODELS),
                    default=MODELS[0],
                    optional=True,
                    tooltip="classic: built like SD1.5, with a text encoder of its own. modern: built like Lumina 2,"
                    " and reads a real language model (SmolLM2, 98 MB), which has to be fetched once.",
                )
            ],
            outputs=[
                io.Model.Output(tooltip="The denoiser. Use a 96 x 96 Empty Latent Image."),
                io.Clip.Output(
                    tooltip="The text encoder: it knows 64 invented names, looks, places, shapes and objects."
                ),
                io.Vae.Output(tooltip="The VAE, 8x downscale."),
            ],
        )

    @classmethod
    def execute(cls, model: str | None = None) -> io.NodeOutput:
        """Loads the weights that come with the extension, and the language model that one of the two reads."""
        import folder_paths

        from ..demo.loader import load_demo_model

        kind = MODELS[0] if model is None else model
        return io.NodeOutput(*load_demo_model(folder_paths.get_folder_paths("embeddings"), kind=kind))


NODES = [LoadDemoModel]
