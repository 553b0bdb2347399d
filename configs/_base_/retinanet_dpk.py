_base_ = './retinanet_fgd.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            _delete_=True,
            loss_dpk=dict(
                type='DPKLoss',
                # Levels by their index among the neck's outputs. The grid of positions is that of a
                # 1333x1333 image; for any other size the positions are interpolated.
                transforms=dict(
                    P4=dict(
                        index=1,
                        student_channels=256,
                        teacher_channels=256,
                        patch_size=4,
                        embed_dims=512,
                        encoder_depth=4,
                        decoder_embed_dims=1024,
                        decoder_depth=4,
                        num_heads=8,
                        position_grid=(21, 21),
                    ),
                    P5=dict(
                        index=2,
                        student_channels=256,
                        teacher_channels=256,
                        patch_size=2,
                        embed_dims=256,
                        encoder_depth=4,
                        decoder_embed_dims=512,
                        decoder_depth=4,
                        num_heads=8,
                        position_grid=(21, 21),
                    ),
                    P6=dict(
                        index=3,
                        student_channels=256,
                        teacher_channels=256,
                        patch_size=1,
                        embed_dims=256,
                        encoder_depth=4,
                        decoder_embed_dims=256,
                        decoder_depth=4,
                        num_heads=8,
                        position_grid=(21, 21),
                    ),
                    P7=dict(
                        index=4,
                        student_channels=256,
                        teacher_channels=256,
                        patch_size=1,
                        embed_dims=256,
                        encoder_depth=4,
                        decoder_embed_dims=256,
                        decoder_depth=4,
                        num_heads=8,
                        position_grid=(11, 11),
                    ),
                ),
                # FGD sees all levels: those above as hybrid features, the rest as they are.
                # The released configs' weights: 'dpk_retinanet_r101_r18_code',
                # '..._r101_r50_code', '..._r152_r50_code'.
                criterion=dict(
                    type='FGDLoss', levels=(0, 1, 2, 3, 4), weights='dpk_one_stage_text'
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
    # CKA needs four samples or more, and two images a GPU are too few: positions are the samples.
    dict(type='mmrazor.CKAMaskRatioHook', samples='positions'),
    dict(type='mmrazor.StudentCheckpointHook'),
]
