"""Keeps what a run has computed: its folder, tensors on disk, digests and seeds."""
