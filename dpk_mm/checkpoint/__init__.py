"""Checkpoints of the student alone, and checkpoints that a run is resumed from."""
