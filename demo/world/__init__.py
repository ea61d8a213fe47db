"""Describes the demo's world: its people, its language, and the renderer that draws them."""
