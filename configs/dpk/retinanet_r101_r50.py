# The teacher with 101 layers and the student with 50 are those of the base.
_base_ = '../_base_/retinanet_dpk.py'
