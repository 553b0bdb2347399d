# Student of the experiments on Fashion-MNIST, alone. The first stage halves the maps already: a
# quarter of the work, and the last two stages have 7x7 and 4x4 cells as in the mini pair.
_base_ = '../../mini/fashion_cnn_none.py'

model = dict(backbone=dict(strides=(2, 1, 2, 2)))

# Few images, so that a teacher of 20,000 has something to give: 83 % alone, the teachers have 90 %.
train_dataloader = dict(
    batch_size=64, num_workers=0, persistent_workers=False, dataset=dict(indices=1000)
)
# Settings are chosen on the last 10,000 training images, which nothing is trained on; the test
# images are the held-out part.
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(split='train', test_mode=False, indices=-10000),
)
test_dataloader = dict(num_workers=0, persistent_workers=False)

# 600 iterations. Below 500, or at a learning rate of 0.05, the student alone is not done, and every loss
# that adds to the gradient would look like a teacher's merit.
train_cfg = dict(max_epochs=40)
param_scheduler = dict(T_max=40, end=40)
optim_wrapper = dict(
    optimizer=dict(lr=0.2),
    # Above what cross entropy and KD have (2 to 3), so that it changes neither. A new encoder-decoder begins with a
    # few gradients of hundreds, which spoil the student for good. (The authors' code clips at 1 on CIFAR.)
    clip_grad=dict(max_norm=5.0, norm_type=2),
)

# Each logged value is the mean since the one before; mmengine does so with losses only.
log_processor = dict(mean_pattern=r'.*(loss|time|grad_norm|mask_ratio|similarity).*')
