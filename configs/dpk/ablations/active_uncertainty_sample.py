_base_ = '../../_base_/imagenet_dpk_ablation.py'

# The teacher's classifier, applied to each position, tells how sure the teacher is there.
model = dict(
    distiller=dict(
        records=dict(
            class_weight=dict(teacher=dict(type='Parameter', source='head.fc.weight')),
            class_bias=dict(teacher=dict(type='Parameter', source='head.fc.bias')),
        ),
        distill_losses=dict(
            loss_dpk=dict(
                transforms=dict(
                    last=dict(mask=dict(type='scores', score='uncertainty', select='sample'))
                )
            )
        ),
        loss_forward_mappings=dict(
            loss_dpk=dict(
                class_weight=dict(recorder='class_weight', from_student=False),
                class_bias=dict(recorder='class_bias', from_student=False),
            )
        ),
    )
)
