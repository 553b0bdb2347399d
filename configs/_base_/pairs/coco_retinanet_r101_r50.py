# ResNet-101 teaches ResNet-50 on COCO: networks, teacher, schedule. A leaf adds the method.
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py'

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DPKDistill',
    # `to_dict` copies: a change of the one must not reach the other.
    architecture=dict(_base_.model.to_dict(), _scope_='mmdet'),
    teacher=dict(
        _base_.model.to_dict(),
        _scope_='mmdet',
        # no ImageNet weights: all of the teacher comes from its checkpoint
        backbone=dict(_base_.model.backbone.to_dict(), depth=101, init_cfg=None),
    ),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/'
        'retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth'
    ),
    # FGD's inheriting strategy: what the student has in common with the teacher starts from it.
    inherit=['neck', 'bbox_head'],
    # the outputs of the neck, P2 to P6 (RetinaNet: P3 to P7)
    distiller=dict(type='DPKDistiller', records=dict(feats='neck')),
)

# lr 0.01 for 8 GPUs x 2 images comes from mmdet
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
find_unused_parameters = False

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
default_hooks = dict(
    student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'),
    distill_alarm=dict(type='mmrazor.DistillAlarmHook'),
)
