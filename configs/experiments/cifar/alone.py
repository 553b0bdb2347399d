# 20 classes of CIFAR-100, 50 images of each: the student, trained without a teacher, 620 iterations.
_base_ = '../../_base_/mini_cifar100.py'

# Each logged value is the mean since the one before; mmengine does so with losses only.
log_processor = dict(mean_pattern=r'.*(loss|time|grad_norm|mask_ratio|similarity).*')
