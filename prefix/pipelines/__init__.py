"""Without this package users of diffusers could not be protected: prompts encoded by a pipeline's own text encoders.

Nothing of diffusers or transformers is imported: a pipeline is taken as it is given, and told by its parts.
"""

from .encoding import Encoded, PromptEncoder
from .families import pipeline_family
from .protection import is_protected, protect

__all__ = ["Encoded", "PromptEncoder", "is_protected", "pipeline_family", "protect"]
