"""Prepares what a prefix is learned from: people, prompts, pictures and the teacher's targets."""
