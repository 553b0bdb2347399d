"""What a run is resumed from or starts from, with mmengine's own runner."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.engine.hooks import EMAHook as AveragedAndRaw
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.engine.hooks.load_check_hook import LoadCheckHook
from dpk_mm.errors import UsageError


class Plain(BaseModel):
    def __init__(self, width=2):
        super().__init__()
        self.layer = nn.Linear(1, width)

    def forward(self, inputs, mode='tensor'):
        return self.layer(inputs)


class Distilled(BaseModel):
    def __init__(self, width=2):
        super().__init__()
        self.architecture = Plain(width)
        self.distiller = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return self.architecture(inputs)


def runner(tmp_path, model, resume=False):
    built = Runner(
        model,
        work_dir=str(tmp_path),
        load_from=str(tmp_path / 'a.pth'),
        resume=resume,
        default_scope='mmengine',
        experiment_name=f'{tmp_path.name}_{id(model)}',
    )
    built.register_hook(LoadCheckHook())
    return built


def save(tmp_path, model, **more):
    torch.save(dict(state_dict=model.state_dict(), meta={}, **more), tmp_path / 'a.pth')
    return model


def test_a_plain_model_starts_from_the_student_of_a_distillation(tmp_path):
    source = save(tmp_path, Distilled())
    built = runner(tmp_path, Plain())
    ema = EMAHook()
    built.register_hook(ema)
    ema.before_run(built)
    built.load_or_resume()
    assert torch.equal(built.model.layer.weight, source.architecture.layer.weight)
    # the average starts from there as well
    assert torch.equal(ema.ema_model.module.layer.weight, source.architecture.layer.weight)


def test_a_plain_model_starts_from_the_averaged_student_of_a_distillation(tmp_path):
    """With mmpretrain's EMAHook, which swaps the two sets of weights by the names of the averaged ones."""
    source, raw = Distilled(), Distilled()
    save(tmp_path, source, ema_state_dict={f'module.{k}': v for k, v in raw.state_dict().items()})
    built = runner(tmp_path, Plain())
    ema = AveragedAndRaw()
    built.register_hook(ema)
    ema.before_run(built)
    built.load_or_resume()
    ema.before_train(built)
    for model in (built.model, ema.ema_model.module):
        assert torch.equal(model.layer.weight, source.architecture.layer.weight)


@pytest.mark.parametrize(
    'written, resumed, message',
    [
        (Plain(), Distilled(), r'architecture\.layer\.weight is missing'),
        (Distilled(), Plain(), r'layer\.weight is missing'),
        (Plain(3), Plain(), r'layer\.weight is \[3, 1\] instead of \[2, 1\]'),
    ],
)
def test_a_checkpoint_of_another_model_is_not_resumed(tmp_path, written, resumed, message):
    save(tmp_path, written)
    built = runner(tmp_path, resumed, resume=True)
    before = resumed.state_dict()
    with pytest.raises(UsageError, match=f'^--resume: .*a.pth is of another model .*{message}'):
        built.load_checkpoint(built._load_from)
    assert all(torch.equal(value, before[name]) for name, value in resumed.state_dict().items())


def test_the_checkpoint_of_this_model_is_resumed(tmp_path):
    source = save(tmp_path, Distilled())
    built = runner(tmp_path, Distilled(), resume=True)
    built.load_checkpoint(built._load_from)
    assert torch.equal(built.model.architecture.layer.weight, source.architecture.layer.weight)


def test_which_of_two_sets_is_used_is_said(tmp_path, monkeypatch):
    source = Plain()
    save(
        tmp_path, source, ema_state_dict={f'module.{k}': v for k, v in source.state_dict().items()}
    )
    built = runner(tmp_path, Plain())
    lines = []
    monkeypatch.setattr(built.logger, 'info', lines.append)
    built.load_or_resume()
    assert any('averaged ones are used' in line for line in lines)


def resumed(tmp_path, model, optimizer, cfg=None, **wrapper):
    built = runner(tmp_path, model, resume=True)
    built.optim_wrapper = built.build_optim_wrapper(dict(optimizer=optimizer, **wrapper))
    if cfg is not None:
        built.cfg = Config(cfg)
    warnings = []
    built.logger.warning = warnings.append
    built.load_checkpoint(built._load_from)
    return [text for text in warnings if text.startswith('--resume')]


SGD = dict(type='SGD', lr=0.1, momentum=0.9)


def save_with(tmp_path, model, optimizer, **more):
    state = torch.optim.SGD(model.parameters(), **optimizer).state_dict()
    return save(tmp_path, model, optimizer=state, **more)


@pytest.mark.parametrize(
    ('now', 'wrapper', 'words'),
    [
        (dict(type='AdamW', lr=0.1), {}, 'momentum.* as settings, and the config .*betas'),
        (
            dict(SGD),
            dict(paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=0.1)))),
            '1 parameter groups of 2 tensors, and the config 2 parameter groups of 2 tensors',
        ),
    ],
)
def test_the_state_of_another_optimizer_is_not_resumed(tmp_path, now, wrapper, words):
    save_with(tmp_path, Plain(), dict(lr=0.1, momentum=0.9))
    with pytest.raises(UsageError, match=f'^--resume: .*of another optimizer .*{words}'):
        resumed(tmp_path, Plain(), now, **wrapper)


def test_settings_that_a_resumed_optimizer_does_not_take(tmp_path):
    save_with(tmp_path, Plain(), dict(lr=0.1, momentum=0.9, weight_decay=1e-4))
    assert resumed(tmp_path, Plain(), dict(SGD, weight_decay=1e-4)) == []
    first, second = resumed(tmp_path, Plain(), dict(SGD, lr=0.5))
    assert 'the lr of the config, 0.5 in optim_wrapper, is not used' in first
    assert 'goes on with 0.1' in first
    assert 'the weight_decay of the config, 0 in optim_wrapper, is not used' in second


def test_the_learning_rate_at_the_time_is_no_difference(tmp_path):
    model = Plain()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.param_groups[0].update(initial_lr=0.1, lr=0.01)  # of a schedule
    save(tmp_path, model, optimizer=optimizer.state_dict())
    assert resumed(tmp_path, Plain(), SGD) == []


def test_each_of_several_optimizers_is_looked_at(tmp_path):
    built = runner(tmp_path, Distilled(), resume=True)
    wrapper = dict(
        constructor='mmrazor.DPKOptimWrapperConstructor',
        architecture=dict(optimizer=SGD),
        distiller=dict(optimizer=dict(type='AdamW', lr=0.1)),
    )
    built.optim_wrapper = built.build_optim_wrapper(wrapper)
    state = built.optim_wrapper.state_dict()
    save(tmp_path, built.model, optimizer=state)
    built.load_checkpoint(built._load_from)
    state['distiller'] = dict(state['architecture'])
    save(tmp_path, built.model, optimizer=state)
    with pytest.raises(UsageError, match=r'another optimizer than optim_wrapper\.distiller of'):
        built.load_checkpoint(built._load_from)


def test_several_optimizers_are_not_resumed_as_one(tmp_path):
    model = Distilled()
    state = torch.optim.SGD(model.parameters(), lr=0.1).state_dict()
    save(tmp_path, model, optimizer=dict(architecture=state, distiller=state))
    with pytest.raises(
        UsageError, match=r'^--resume: .*of several optimizers, architecture, distiller, .* has one'
    ):
        resumed(tmp_path, Distilled(), SGD)


@pytest.fixture
def amp_anywhere(monkeypatch):
    # mmengine refuses its AmpOptimWrapper on a machine without a GPU
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True
    )


AMP = dict(type='AmpOptimWrapper', loss_scale=dict(enabled=False))


@pytest.mark.parametrize('several', [False, True])
def test_a_loss_scale_does_not_begin_at_a_resume(tmp_path, amp_anywhere, several):
    parts = dict(
        constructor='mmrazor.DPKOptimWrapperConstructor',
        architecture=dict(optimizer=SGD),
        distiller=dict(optimizer=SGD),
    )
    built = runner(tmp_path, Distilled(), resume=True)
    built.optim_wrapper = built.build_optim_wrapper(
        dict(AMP, **(parts if several else dict(optimizer=SGD)))
    )
    save(tmp_path, built.model, optimizer=built.optim_wrapper.state_dict())
    built.load_checkpoint(built._load_from)  # the same settings
    # torch's scaler on a CPU; mmengine knows CUDA's alone
    for part in built.optim_wrapper.values() if several else [built.optim_wrapper]:
        part.loss_scaler = torch.amp.GradScaler('cpu')
    name = 'optim_wrapper.architecture' if several else 'optim_wrapper'
    with pytest.raises(
        UsageError, match=f'trained without a loss scale, as with --amp bf16, and {name} of the'
    ):
        built.load_checkpoint(built._load_from)
    save(tmp_path, built.model, optimizer=built.optim_wrapper.state_dict())
    built.load_checkpoint(built._load_from)


def test_another_teacher_is_said(tmp_path):
    before, now = ({'model': dict(type='A', teacher_ckpt=f'{name}.pth')} for name in 'ab')
    model = Plain()
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(cfg=Config(before).pretty_text)),
        tmp_path / 'a.pth',
    )
    assert resumed(tmp_path, Plain(), SGD, before) == []
    (said,) = resumed(tmp_path, Plain(), SGD, now)
    assert "model.teacher_ckpt was 'a.pth' and is 'b.pth'" in said
