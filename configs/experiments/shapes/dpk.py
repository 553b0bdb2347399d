# DPK on P4 and P5 with FGD as its criterion; grids set the weights of the levels, and forms of the modules.
_base_ = '../../mini/faster_rcnn_dpk.py'

custom_hooks = [dict(type='mmrazor.LossGradientHook', interval=20, by_level=True)]
