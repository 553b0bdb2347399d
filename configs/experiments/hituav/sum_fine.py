# FGD on the student's own feature of every level, and on the hybrids of P2 and P3.
_base_ = './dpk_fine.py'
from dpk_mm.models.methods import fgd  # noqa: E402

model = dict(
    distiller=dict(
        distill_losses=dict(
            **fgd('bccd/faster_rcnn', 'mini_two_stage'),
            loss_dpk=dict(criterion=dict(levels=(0, 1))),
        )
    )
)
