"""Runs the adapter against a real Forge.

    FORGE_DIR=/path/to/forge FORGE_PYTHON=/path/to/its/python python -m anonymize_faces.tests.forge

`FORGE_DIR` needs `repositories/huggingface_guess` beside Forge's own files, as its launcher clones it; `FORGE_PYTHON`
is a Python with Forge's requirements. No model files and no GPU: the checkpoint is made here, with random weights.
"""
