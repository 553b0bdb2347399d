"""``tools/distill.py``: from two names and a folder of images to a trained student, in stages that can be repeated."""
