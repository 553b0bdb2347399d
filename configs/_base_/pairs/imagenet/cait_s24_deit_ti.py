_base_ = '../../imagenet_cait_deit.py'
