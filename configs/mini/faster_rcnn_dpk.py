_base_ = './faster_rcnn_fgd.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            _delete_=True,
            loss_dpk=dict(
                type='DPKLoss',
                # Sinusoidal positions, as in the authors' code: a learned table starts at nothing, and six epochs
                # are too few for it (one seed, width 128: mAP 0.166 instead of 0.188).
                # Two levels by their index among the outputs of the neck, with 8x8 and 4x4 cells.
                transforms=dict(
                    P4=dict(
                        index=2,
                        student_channels=64,
                        teacher_channels=64,
                        patch_size=1,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_embedding='sinusoidal',
                    ),
                    P5=dict(
                        index=3,
                        student_channels=64,
                        teacher_channels=64,
                        patch_size=1,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_embedding='sinusoidal',
                    ),
                ),
                # The weights of the FGD config.
                criterion=dict(
                    type='FGDLoss',
                    levels=(0, 1, 2, 3),
                    student_channels=64,
                    teacher_channels=64,
                    weights=dict(alpha=5e-4, beta=2.5e-4, gamma=5e-4, lam=5e-6),
                ),
            ),
        ),
        loss_forward_mappings=dict(
            _delete_=True,
            loss_dpk=dict(
                student_feats=dict(recorder='neck', from_student=True),
                teacher_feats=dict(recorder='neck', from_student=False),
                data_samples=dict(recorder='data_samples', from_student=True, data_idx=1),
            ),
        ),
    )
)

custom_hooks = [
    # positions as samples, as in the configs for COCO
    dict(type='mmrazor.CKAMaskRatioHook', samples='positions'),
    dict(type='mmrazor.StudentCheckpointHook'),
]
