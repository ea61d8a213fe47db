"""Without this package Automatic1111 and Forge could not protect a prompt: what the script beside it hooks into them.

Nothing of the host is imported before it is there: modules of `modules` and `backend` only within functions.
"""
