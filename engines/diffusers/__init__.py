"""Protects pipelines of diffusers, and encodes prompts by their own text encoders.

Nothing of diffusers or transformers is imported: a pipeline is taken as it is given, and told by its parts.
"""

from .face_region import change_faces_alone
from .pipeline_families import pipeline_family
from .prompt_encoding import Encoded, PromptEncoder
from .protection import is_protected, protect_pipeline

__all__ = ["Encoded", "PromptEncoder", "change_faces_alone", "is_protected", "pipeline_family", "protect_pipeline"]
