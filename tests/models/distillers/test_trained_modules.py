"""Modules start from a file that fits, all of them or not at all."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

from dpk_mm.errors import UsageError
from dpk_mm.models.distillers.trained_modules import module_weights

SIZES = dict(encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=2)


def build(width=8, stage='P5', **kwargs):
    init_default_scope('mmrazor')
    transforms = {stage: dict(index=0, student_channels=3, teacher_channels=5, embed_dims=width)}
    transforms[stage].update(SIZES)
    return MODELS.build(
        dict(
            type='DPKDistiller',
            records=dict(feats='body', logits='head'),
            distill_losses=dict(
                loss_dpk=dict(type='DPKLoss', transforms=transforms), loss_kd=dict(type='KDLoss')
            ),
            **kwargs,
        )
    )


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(1)
    weights = module_weights(build())
    path = tmp_path / 'modules.pth'
    # a full checkpoint has more
    torch.save(dict(state_dict={'architecture.w': torch.ones(1), **weights}), path)
    return path, weights


def test_all_weights_are_those_of_the_file(saved):
    path, weights = saved
    torch.manual_seed(2)
    distiller = build(modules_ckpt=str(path))
    distiller.init_weights()
    found = module_weights(distiller)
    assert found and all(key.startswith('distiller.distill_losses.loss_dpk.trans') for key in found)
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_what_does_not_fit_is_named(saved, tmp_path):
    path = str(saved[0])
    with pytest.raises(UsageError, match=r'does not fit .*P4.* is missing .*and \d+ more; give'):
        build(stage='P4', modules_ckpt=path).init_weights()
    with pytest.raises(UsageError, match=r'is \(8, 3, 1, 1\) instead of \(16, 3, 1, 1\)'):
        build(width=16, modules_ckpt=path).init_weights()
    with pytest.raises(UsageError, match='there is no file .*tools/train_modules.py'):
        build(modules_ckpt=str(tmp_path / 'none.pth')).init_weights()
    without = MODELS.build(
        dict(
            type='DPKDistiller',
            records=dict(logits='head'),
            distill_losses=dict(loss_kd=dict(type='KDLoss')),
            modules_ckpt=path,
        )
    )
    with pytest.raises(UsageError, match='no loss of the distiller has transformation modules'):
        without.init_weights()
