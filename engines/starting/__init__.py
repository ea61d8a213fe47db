"""Sets what a conditional prefix begins from, by what text encoders say of prompts and before anything is learned."""
