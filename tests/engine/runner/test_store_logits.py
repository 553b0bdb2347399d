"""A short training with a live teacher, and the same with its stored logits."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from PIL import Image

from dpk_mm.engine.hooks import ReplayHook
from dpk_mm.engine.runner import store_logits as module
from dpk_mm.engine.runner.store_logits import store_logits
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically
from dpk_mm.models.losses import DecoupledKDLoss, KDLoss, NKDLoss
from dpk_mm.models.methods import kd
from dpk_mm.models.teacher.stored_logits import StoredLogits
from tests.helpers.small_runs import classifier

PASSES, IMAGES, TAU = 2, 12, 4.0


@pytest.fixture
def cfg(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        folder = tmp_path / 'data' / f'class{i % 5}'
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f'{i}.png')
    init_default_scope('mmpretrain')
    torch.manual_seed(1)
    teacher = MODELS.build(classifier(16))
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    return Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(tmp_path / 'run'),
            model=dict(
                _scope_='mmrazor',
                type='DPKDistill',
                architecture=classifier(),
                teacher=classifier(16),
                teacher_ckpt=str(tmp_path / 'teacher.pth'),
                distiller=dict(
                    type='DPKDistiller',
                    records=dict(logits='head.fc'),
                    distill_losses=kd(tau=TAU),
                ),
            ),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(
                    type='CustomDataset',
                    data_prefix=str(tmp_path / 'data'),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='RandomCrop', crop_size=32, padding=4),
                        dict(type='RandomFlip', prob=0.5),
                        dict(type='PackInputs'),
                    ],
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            default_hooks=dict(checkpoint=None, replay=dict(type='mmrazor.ReplayHook')),
            randomness=dict(seed=3),
        )
    )


def replayed(cfg, logits=None):
    out = copy.deepcopy(cfg)
    dataset = dict(type='ReplayDataset', dataset=dict(out.train_dataloader.dataset))
    dataset.update(passes=PASSES, seed=7)
    if logits is not None:
        dataset['logits'] = str(logits)
        teacher = dict(type='StoredTeacher', num_classes=5, tau=TAU)
        out.model = dict(out.model, teacher_ckpt=None, teacher=teacher)
    out.train_dataloader = dict(out.train_dataloader, dataset=dataset)
    return out


class Losses(Hook):
    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append({k: float(v) for k, v in outputs.items() if 'loss' in k})


def train(cfg):
    losses = Losses()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(losses)
    runner.train()
    return losses.values


def store(cfg, folder, **kwargs):
    settings = dict(passes=PASSES, top_k=5, tau=TAU, seed=7, device='cpu') | kwargs
    # building a classifier writes into its config
    return store_logits(copy.deepcopy(cfg), folder, say=lambda line: None, **settings)


def test_the_losses_are_those_of_the_live_teacher(cfg, tmp_path, monkeypatch):
    logits = store(cfg, tmp_path / 'logits')
    assert logits.complete and logits.done == PASSES * IMAGES
    live, stored = train(replayed(cfg)), train(replayed(cfg, tmp_path / 'logits'))
    assert len(live) == len(stored) == 3 * 3
    for own, given in zip(live, stored, strict=True):
        assert own['distill.loss_kd'] > 0
        for name, value in own.items():
            assert given[name] == pytest.approx(value, rel=5e-3), name
    # a second run finds it whole
    monkeypatch.setattr(module, 'DataLoader', None)
    assert store(cfg, tmp_path / 'logits').manifest == logits.manifest


def test_the_preprocessor_at_the_top_is_used(cfg, tmp_path):
    """As in the training, where the Runner gives it to the model."""
    settings = cfg.model.architecture.pop('data_preprocessor')
    cfg.model.teacher.pop('data_preprocessor')
    found = {}
    for place in ('model', 'top', 'none'):
        own = copy.deepcopy(cfg)
        if place == 'model':
            own.model.data_preprocessor = settings
        elif place == 'top':
            own.data_preprocessor = settings
        store(own, tmp_path / place, passes=1)
        found[place] = np.load(tmp_path / place / 'values.npy')
    np.testing.assert_array_equal(found['top'], found['model'])
    assert not np.allclose(found['top'], found['none'], atol=0.1)


def test_what_was_ended_goes_on_with_the_same_images(cfg, tmp_path, monkeypatch):
    whole = store(cfg, tmp_path / 'whole')
    monkeypatch.setattr(module, 'SAVE_EVERY', 1)
    write, count = module.StoredLogits.write, iter(range(4))

    def stop(self, logits):
        next(count)  # the fifth batch is one too many
        write(self, logits)

    monkeypatch.setattr(module.StoredLogits, 'write', stop)
    with pytest.raises(StopIteration):
        store(cfg, tmp_path / 'parts')
    monkeypatch.setattr(module.StoredLogits, 'write', write)
    again = store(cfg, tmp_path / 'parts')
    assert again.complete
    for name in ('values.npy', 'classes.npy', 'rest.npy'):
        own, given = (np.load(tmp_path / part / name) for part in ('whole', 'parts'))
        np.testing.assert_allclose(own, given, rtol=1e-2, atol=1e-3)
    assert whole.manifest['source'] == again.manifest['source']


@pytest.mark.parametrize(
    ('what', 'change'),
    [
        ('record', dict(distiller=dict(records=dict(logits='head.fc', feats='head')))),
        ('averaged_weights', dict(averaged_weights=False)),
        ('teacher_input_size', dict(teacher_input_size=64)),
        ('teacher_precision', dict(teacher_precision='bfloat16')),
        ('normalisation', dict(data_preprocessor=dict(mean=[1.0], std=[2.0]))),
    ],
)
def test_a_store_of_other_settings_is_refused(cfg, tmp_path, what, change):
    del cfg.model.teacher.data_preprocessor  # it takes over the student's
    averaged = torch.load(cfg.model.teacher_ckpt)['state_dict']
    raw = {f'module.{name}': value + 1 for name, value in averaged.items()}
    torch.save(dict(state_dict=averaged, ema_state_dict=raw), cfg.model.teacher_ckpt)
    logits = store(cfg, tmp_path / 'logits', passes=1)
    other = copy.deepcopy(cfg)
    other.merge_from_dict(dict(model=change))
    kwargs = dict(record='feats') if what == 'record' else {}
    with pytest.raises(UsageError, match=rf'holds logits of another source\.{what} '):
        store(other, logits.folder, passes=1, **kwargs)
    assert StoredLogits(logits.folder).manifest == logits.manifest


def test_a_store_that_does_not_say_its_settings_is_still_trained_on(cfg, tmp_path):
    logits = store(cfg, tmp_path / 'logits')
    source = {k: logits.manifest['source'][k] for k in ('dataset', 'teacher', 'seed')}
    write_json_atomically(logits.folder / 'manifest.json', dict(logits.manifest, source=source))
    assert all(losses['distill.loss_kd'] > 0 for losses in train(replayed(cfg, logits.folder)))
    with pytest.raises(UsageError, match='of another source.record .None, now '):
        store(cfg, logits.folder)


def test_what_does_not_fit_is_said_before_the_first_step(cfg, tmp_path):
    store(cfg, tmp_path / 'logits')
    other = replayed(cfg, tmp_path / 'logits')
    other.train_dataloader.dataset.seed = 8
    with pytest.raises(ValueError, match='was made for another data set'):
        train(other)
    mixed = replayed(cfg, tmp_path / 'logits')
    mixed.model.architecture.train_cfg = dict(augments=dict(type='Mixup', alpha=0.2))
    with pytest.raises(ValueError, match='take train_cfg.augments out'):
        train(mixed)
    live = replayed(cfg, tmp_path / 'logits')
    live.model.teacher = classifier(16)
    with pytest.raises(ValueError, match='is a ImageClassifier, which does not look at stored'):
        train(live)
    warmer = replayed(cfg, tmp_path / 'logits')
    warmer.model.teacher.tau = 1.0
    with pytest.raises(ValueError, match='tau is 1.0, but the logits in .* were stored with 4.0'):
        train(warmer)
    iterations = replayed(cfg, tmp_path / 'logits')
    iterations.train_cfg = dict(by_epoch=False, max_iters=3)
    with pytest.raises(ValueError, match='train_cfg counts iterations'):
        train(iterations)
    with pytest.raises(ValueError, match='must be a ReplayDataset'):
        train(copy.deepcopy(cfg))
    values = (tmp_path / 'logits' / 'values.npy').read_bytes()
    (tmp_path / 'logits' / 'values.npy').write_bytes(values[:-2] + b'\x00\x00')
    with pytest.raises(ValueError, match='is not the file that was written'):
        train(replayed(cfg, tmp_path / 'logits'))
    with pytest.raises(ValueError, match="no record 'feats', only logits"):
        store(cfg, tmp_path / 'other', record='feats')


@pytest.mark.parametrize(('tau', 'top_k', 'said'), [(4.0, 3, 0), (1.0, 5, 0), (1.0, 3, 1)])
def test_a_loss_of_another_temperature_is_said(tau, top_k, said):
    lines = []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=lines.append))
    losses = dict(loss_kd=SimpleNamespace(tau=tau), loss_hard=object())
    stored = SimpleNamespace(tau=4.0, top_k=top_k, num_classes=5)
    ReplayHook._compare_temperatures(runner, losses, stored)
    assert len(lines) == said and all('tau of loss_kd is 1.0' in line for line in lines)


@pytest.mark.parametrize(
    ('loss', 'tau', 'said'),
    [
        (
            KDLoss(tau=4.0, standardize=True),
            4.0,
            r'loss_kd standardises .* but 3 of 5 are stored; .*--top-k 5',
        ),
        (DecoupledKDLoss(tau=4.0, standardize='paper'), 4.0, 'set standardize=False'),
        (
            NKDLoss(tau=4.0),
            4.0,
            'at the temperature 1, but .* summed at 4; store them with --tau 1',
        ),
    ],
)
def test_a_loss_that_needs_what_was_not_kept_is_refused(loss, tau, said):
    runner = SimpleNamespace(logger=SimpleNamespace(warning=pytest.fail))
    stored = dict(tau=tau, num_classes=5)
    with pytest.raises(UsageError, match=said):
        ReplayHook._compare_temperatures(
            runner, dict(loss_kd=loss), SimpleNamespace(top_k=3, **stored)
        )
    ReplayHook._compare_temperatures(runner, dict(loss_kd=loss), SimpleNamespace(top_k=5, **stored))


def test_nkd_on_stored_logits_of_temperature_one():
    lines = []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=lines.append))
    stored = SimpleNamespace(tau=1.0, top_k=3, num_classes=5)
    ReplayHook._compare_temperatures(runner, dict(loss_nkd=NKDLoss(tau=1.0)), stored)
    assert not lines
    ReplayHook._compare_temperatures(runner, dict(loss_nkd=NKDLoss(tau=3.0)), stored)
    assert len(lines) == 1 and lines[0].endswith('store them with --top-k 5.')
