"""Without this package no prefix could be learned: data, objective and loop, and the engines that speak to models."""
