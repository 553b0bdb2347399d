_base_ = './coco_faster_rcnn_r101_r50.py'

model = dict(
    teacher=dict(backbone=dict(depth=152)),
    # published nowhere: to be trained first
    teacher_ckpt='work_dirs/faster_rcnn_r152_fpn_2x_coco/epoch_24.pth',
    teacher_command='python tools/train.py configs/teachers/faster_rcnn_r152_fpn_2x_coco.py',
)
