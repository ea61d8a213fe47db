"""Builds the demo's second model: a flow-matching transformer that reads the states of a pretrained language model."""
