"""Every mask-ratio ablation says what its name says, in the ratios that its hook gives."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmrazor.registry import HOOKS

import dpk_mm  # noqa: F401
from dpk_mm.functional import cka_from_sums, hsic_sums, minibatch_cka

pytestmark = pytest.mark.usefixtures('quick_configs')

FOLDER = Path(__file__).parents[1] / 'configs' / 'dpk' / 'ablations'
FIXED = {f'ratio_fixed_{r:03d}': r / 100 for r in (15, 35, 55, 75, 95)}
# epoch: ratio
SCHEDULES = {
    'ratio_linear': {e: max((1 - e / 200) * 0.95, 0.1) for e in (0, 1, 20, 99, 178, 179, 199)},
    'ratio_linear_text': {0: 1.0, 1: 0.05, 2: 0.0, 99: 0.0},
    'ratio_exponential_text': {e: 0.95**e for e in (0, 1, 20, 99)},
    'ratio_exponential_code': {0: 0.95, 1: 0.95, 5: 0.95, 6: 0.99**6, 99: 0.99**99, 240: 0.1},
}
SIMILARITIES = ('ratio_cka', 'ratio_cka_window', 'ratio_cka_ema', 'ratio_cosine')
NAMES = (*FIXED, *SCHEDULES, *SIMILARITIES, 'ratio_per_stage')


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def policy(name):
    hook = load(name).default_hooks.mask_ratio
    return HOOKS.build(hook).policy


def pair(seed):
    g = torch.Generator().manual_seed(seed)
    teacher = torch.rand(8, 3, 4, 4, generator=g)
    return teacher + 0.4 * seed * torch.rand(8, 3, 4, 4, generator=g), teacher


def test_the_promised_files_are_there():
    assert {path.stem for path in FOLDER.glob('ratio_*.py')} == set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_only_the_hook_differs_from_the_base(name):
    cfg = load(name)
    base = (
        '../imagenet/resnet34_resnet18'
        if name == 'ratio_per_stage'
        else '../../_base_/imagenet_dpk_ablation'
    )
    base = load(base)
    stages = cfg.model.distiller.distill_losses.loss_dpk.transforms
    distilled = [stage for stage, size in stages.items() if size is not None]
    assert distilled == (['second_last', 'last'] if name == 'ratio_per_stage' else ['last'])
    policy(name).check_stages(distilled)
    for part in (cfg, base):
        del part.default_hooks['mask_ratio']
    assert cfg.to_dict() == base.to_dict()
    assert cfg.default_hooks.student_checkpoint.type == 'mmrazor.StudentCheckpointHook'


@pytest.mark.parametrize('name', [*FIXED, *SCHEDULES])
def test_schedules_by_value(name):
    values = SCHEDULES.get(name) or dict.fromkeys((0, 50, 99), FIXED[name])
    found = policy(name)
    for epoch, ratio in values.items():
        found.set_epoch(epoch)
        assert found(dict(last=pair(1))) == dict(last=pytest.approx(ratio, abs=1e-12))


def test_ratios_by_stage():
    ratios = policy('ratio_per_stage')(dict(second_last=pair(1), last=pair(2)))
    assert ratios == dict(second_last=0.25, last=0.55)


def test_similarities_by_value():
    batches = [pair(seed) for seed in range(1, 11)]
    found = {name: policy(name) for name in SIMILARITIES}
    for batch in batches:
        for each in found.values():
            each(dict(last=batch))
    similarities = {name: each.similarities['last'] for name, each in found.items()}
    sums = torch.stack([hsic_sums(*batch) for batch in batches])
    decay = 0.9 ** torch.arange(9, -1, -1, dtype=torch.float64)
    s, t = batches[-1]
    assert similarities == pytest.approx(
        {
            'ratio_cka': minibatch_cka(s, t).item(),
            'ratio_cka_window': cka_from_sums(sums[-8:].sum(0)).item(),
            'ratio_cka_ema': cka_from_sums(decay @ sums).item(),
            'ratio_cosine': torch.cosine_similarity(s.flatten(2), t.flatten(2), dim=2)
            .mean()
            .item(),
        }
    )
    assert len({round(value, 4) for value in similarities.values()}) == 4
