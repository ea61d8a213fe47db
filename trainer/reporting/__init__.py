"""Tells of a run: report, curves, pictures on the way, telemetry."""
