"""Checkpoints: the student's own, and what a run goes on from."""
