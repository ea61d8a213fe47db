"""Protects prompts in Automatic1111 and Forge: what the script beside it hooks into them.

Nothing of the host is imported before it is there: modules of `modules` and `backend` only within functions.
"""
