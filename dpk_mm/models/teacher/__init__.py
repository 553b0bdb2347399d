"""The teacher: its checkpoint, its input size and its normalisation."""
