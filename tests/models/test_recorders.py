"""The recorder of several modules, on its own and through a distiller."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.models.recorders import MultiModuleOutputsRecorder


@pytest.fixture(autouse=True)
def _scope():
    # as in a model whose config says `_scope_='mmrazor'`
    with DefaultScope.overwrite_default_scope('mmrazor'):
        yield


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.blocks = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5))

    def forward(self, x):
        return self.blocks(self.first(x))


def manager(net, *source):
    from mmrazor.models.task_modules.recorder import RecorderManager  # after dpk_mm's compat

    found = RecorderManager(dict(feats=dict(type='MultiModuleOutputs', source=list(source))))
    found.initialize(net)
    return found


def test_it_gives_the_outputs_as_one_tuple_in_the_order_of_the_names():
    torch.manual_seed(0)
    net, x = Net(), torch.randn(6, 4)
    recorders = manager(net, 'blocks.1', 'first')
    with recorders:
        out = net(x)
    recorder = recorders.get_recorder('feats')
    last, first = recorder.get_record_data()
    assert last is out
    torch.testing.assert_close(first, net.first(x))
    assert recorder.get_record_data(data_idx=1) is first
    assert recorder.source == 'blocks.1, first'


def test_gradients_pass_through_the_recorded_outputs():
    net = Net()
    recorders = manager(net, 'first', 'blocks.0')
    with recorders:
        net(torch.randn(6, 4))
    sum(out.sum() for out in recorders.get_recorder('feats').get_record_data()).backward()
    assert net.blocks[1].weight.grad is None
    assert net.first.weight.grad.abs().sum() > 0


def test_each_run_is_a_record_and_nothing_is_recorded_outside():
    net = Net()
    recorder = manager(net, 'first', 'blocks').get_recorder('feats')
    net(torch.randn(2, 4))
    assert recorder.data_buffer == []
    with recorder:
        outs = [net(torch.randn(2, 4)) for _ in range(2)]
    assert len(recorder.data_buffer) == 2
    for i, out in enumerate(outs):
        assert recorder.get_record_data(record_idx=i)[1] is out
    with recorder:  # the next batch starts with nothing of this one
        assert recorder.data_buffer == []
    with recorder:
        net(torch.randn(2, 4))
    recorder.reset_data_buffer()
    assert recorder.data_buffer == []


def test_a_distiller_hands_the_tuple_to_its_loss():
    distiller = MODELS.build(
        dict(
            type='DPKDistiller',
            student_recorders=dict(
                feats=dict(type='MultiModuleOutputs', source=['first', 'blocks.0'])
            ),
            teacher_recorders=dict(feats=dict(type='ModuleOutputs', source='blocks')),
            distill_losses=dict(loss_kd=dict(type='KLDivergence')),
            loss_forward_mappings=dict(
                loss_kd=dict(
                    preds_S=dict(recorder='feats', from_student=True),
                    preds_T=dict(recorder='feats', from_student=False),
                )
            ),
        )
    )
    student, teacher, x = Net(), Net(), torch.randn(6, 4)
    distiller.prepare_from_student(student)
    distiller.prepare_from_teacher(teacher)
    with distiller.student_recorders, distiller.teacher_recorders:
        student(x), teacher(x)
    assert [tuple(f.shape) for f in distiller.get_record('feats', True)] == [(6, 3), (6, 2)]
    assert distiller.get_record('feats', True, data_idx=1).shape == (6, 2)
    distiller.clear_records()
    assert distiller.student_recorders.get_recorder('feats').data_buffer == []


@pytest.mark.parametrize(
    ('source', 'parts'),
    [
        (['first', 'second'], ["'second'", 'Net has no', 'choose from those: first, blocks']),
        (['blocks.7'], ["'blocks.7'", "in 'blocks': blocks.0, blocks.1"]),
        (['first.deeper.still'], ["'first.deeper.still'", "in 'first': none"]),
        (['blockz.0'], ["'blockz.0'", 'first, blocks']),
    ],
)
def test_an_unknown_module_is_named_with_those_beside_it(source, parts):
    with pytest.raises(ValueError) as error:
        manager(Net(), *source)
    assert all(part in str(error.value) for part in ['MultiModuleOutputs', *parts])


@pytest.mark.parametrize('source', ['backbone', [], ['first', 3]])
def test_source_must_be_a_list_of_names(source):
    with pytest.raises(ValueError, match='source must be a list of module names'):
        MultiModuleOutputsRecorder(source)
