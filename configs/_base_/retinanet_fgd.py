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
    distiller=dict(
        type='DPKDistiller',
        student_recorders=dict(
            neck=dict(type='ModuleOutputs', source='neck'),
            data_samples=dict(type='ModuleInputs', source=''),
        ),
        teacher_recorders=dict(neck=dict(type='ModuleOutputs', source='neck')),
        distill_losses=dict(
            # P3 to P7. Other weights by name:
            # 'fgd_one_stage_code' (its gamma is not the paper's), 'dpk_one_stage_text',
            # 'dpk_retinanet_r101_r18_code', '..._r101_r50_code', '..._r152_r50_code'.
            loss_fgd=dict(type='FGDLoss', levels=(0, 1, 2, 3, 4), weights='fgd_one_stage_paper')
        ),
        loss_forward_mappings=dict(
            loss_fgd=dict(
                student_feats=dict(recorder='neck', from_student=True),
                teacher_feats=dict(recorder='neck', from_student=False),
                data_samples=dict(recorder='data_samples', from_student=True, data_idx=1),
            )
        ),
    ),
)

# lr 0.01 for 8 GPUs x 2 images comes from mmdet
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
find_unused_parameters = False

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='mmrazor.StudentCheckpointHook')]
