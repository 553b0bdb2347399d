# The student alone.
_base_ = '../_base_/mini_fashion_vit.py'
