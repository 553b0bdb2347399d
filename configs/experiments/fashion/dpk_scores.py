# The teacher gives the tokens with the highest scores, at ratio 0.5; grids set the score.
_base_ = './dpk_fixed.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feat=dict(
                transforms=dict(
                    last=dict(mask=dict(type='scores', score='gap', select='top', opposite=False))
                )
            )
        )
    )
)
