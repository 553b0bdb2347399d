# DIST in the place of KD, and FitNets.
_base_ = './fitnets.py'
from dpk_mm.models.methods import dist  # noqa: E402

model = dict(
    distiller=dict(
        distill_losses=dict(
            _delete_=True,
            **dist(tau=4.0),
            loss_feat=_base_.model.distiller.distill_losses.loss_feat.to_dict(),
        )
    )
)
