_base_ = './coco_retinanet_r101_r50.py'

model = dict(
    teacher=dict(backbone=dict(depth=152)),
    # published nowhere: to be trained first
    teacher_ckpt='work_dirs/retinanet_r152_fpn_2x_coco/epoch_24.pth',
    teacher_command='python tools/train.py configs/teachers/retinanet_r152_fpn_2x_coco.py',
)
