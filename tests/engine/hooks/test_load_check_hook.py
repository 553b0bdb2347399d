"""What a run is resumed from or starts from, with mmengine's own runner."""

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
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
