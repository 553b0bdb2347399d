import copy

import pytest
import torch
from mmengine.config import Config
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.models.teacher.speed import compile_forward, compile_teacher
from tools.benchmark_suites.batches import make_batch

CONFIG = 'configs/mini/fashion_cnn_kd.py'


def losses(**kwargs):
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIG)
    cfg.model.update(teacher_ckpt=None, **kwargs)
    model = MODELS.build(cfg.model).train()
    data = model.data_preprocessor(make_batch(cfg, 4, (28, 28)), True)
    seen = []
    model.teacher.head.fc.register_forward_hook(lambda *args: seen.append(args[2]))
    return model, model(**data, mode='loss'), seen[0]


def test_half_precision_rounds_what_the_teacher_gives_and_nothing_else():
    _, exact, logits = losses()
    model, rounded, half = losses(teacher_precision='bfloat16')
    assert logits.dtype == torch.float32 and half.dtype == torch.bfloat16
    # bfloat16 has 8 bits; some layers come one after another
    torch.testing.assert_close(half.float(), logits, rtol=0.05, atol=0.05 * float(logits.std()))
    assert torch.equal(rounded['student.loss'], exact['student.loss'])
    assert rounded['distill.loss_kd'] != exact['distill.loss_kd']
    torch.testing.assert_close(
        rounded['distill.loss_kd'], exact['distill.loss_kd'], rtol=0.05, atol=1e-4
    )
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float32}


def test_the_students_own_autocast_does_not_decide():
    with torch.autocast('cpu', torch.bfloat16):
        assert losses(teacher_precision='float16')[2].dtype == torch.float16
        assert losses()[2].dtype == torch.bfloat16


def test_compiled_gives_the_same_losses_and_keeps_the_names():
    plain, expected, _ = losses()
    # a backend that needs no compiler on the machine; the graph is traced all the same
    model, found, _ = losses(teacher_compile=dict(backend='eager'))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert list(model.teacher.state_dict()) == list(plain.teacher.state_dict())
    assert model.state_dict().keys() == plain.state_dict().keys()
    copy.deepcopy(model)


def test_hooks_of_a_compiled_module_are_called_at_each_run():
    module = nn.Sequential(nn.Linear(2, 2))
    calls = []
    module.register_forward_hook(lambda *args: calls.append(args[2]))
    compile_forward(module, dict(backend='eager'))
    x = torch.rand(3, 2)
    for _ in range(2):
        assert torch.equal(module(x), module[0](x))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(teacher_precision='bf16'), "teacher_precision is 'bf16'.*did you mean bfloat16"),
        (dict(teacher_compile='max-autotune'), 'teacher_compile must be True, or a dict'),
    ],
)
def test_what_does_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        losses(**kwargs)


def test_recorders_inside_of_what_is_compiled_are_refused():
    teacher = nn.Module()
    teacher.backbone = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"looks at 'backbone.0' inside"):
        compile_teacher(teacher, True, ['head.fc', 'backbone.0'])
    with pytest.raises(ValueError, match='Linear has no backbone'):
        compile_teacher(nn.Linear(2, 2), True, [])
