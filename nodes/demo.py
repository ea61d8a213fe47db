"""Defines the node that loads the embedded demo model, so that everything can be tried without a checkpoint."""

from __future__ import annotations

from comfy_api.v0_0_2 import io


class LoadDemoModel(io.ComfyNode):
    """MODEL, CLIP and VAE of the demo's small model of invented people."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and words."""
        return io.Schema(
            node_id="LoadDemoModel",
            display_name="Load Demo Model",
            category="anonymize",
            description="A tiny text-to-image model of 64 invented people, 64 x 64 pixels,"
            " that runs on any CPU in seconds."
            " Try training and anonymizing with it before you use your own checkpoint.",
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="The denoiser (SD1 type, v-prediction). Use a 64 x 64 Empty Latent Image."),
                io.Clip.Output(
                    tooltip="The text encoder: it knows 64 invented names, looks, places, shapes and objects."
                ),
                io.Vae.Output(tooltip="The VAE, 8x downscale."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Loads the weights that come with the extension."""
        import folder_paths

        from ..demo.loader import load_demo_model

        return io.NodeOutput(*load_demo_model(folder_paths.get_folder_paths("embeddings")))


NODES = [LoadDemoModel]
