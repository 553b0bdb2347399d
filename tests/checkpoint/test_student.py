import os
from collections import OrderedDict

import pytest
import torch
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student import (
    export_student,
    load_student,
    read_student,
    save_student,
    student_state_dict,
)
from dpk_mm.errors import UsageError


class Net(nn.Module):
    """A student with a name inside that looks like the prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            OrderedDict(architecture=nn.Linear(2, 3), bn=nn.BatchNorm1d(3))
        )


class Algorithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.architecture = Net()
        self.distiller = nn.Linear(1, 1)


# student_state_dict


def test_only_the_leading_prefix_is_taken_off():
    algorithm = Algorithm()
    checkpoint = dict(state_dict=algorithm.state_dict(), meta={})
    weights = student_state_dict(checkpoint)

    expected = algorithm.architecture.state_dict()
    assert list(weights) == list(expected)
    assert 'backbone.architecture.weight' in weights
    for name, value in expected.items():
        assert torch.equal(weights[name], value)
    # the versions of the modules come along, under the student's names
    assert weights._metadata == expected._metadata
    assert weights._metadata['backbone.bn'] == {'version': 2}


def test_teacher_of_mmrazors_files_is_dropped():
    state = {
        'architecture.a': torch.ones(1),
        'teacher.a': torch.zeros(1),
        'distiller.b': torch.zeros(2),
    }
    assert student_state_dict(dict(state_dict=state)) == {'a': torch.ones(1)}


@pytest.mark.parametrize('wrapped', [True, False])
def test_student_only_checkpoint_passes(wrapped):
    expected = Net().state_dict()
    weights = student_state_dict(dict(state_dict=expected) if wrapped else expected)
    assert list(weights) == list(expected)
    assert all(weights[name] is expected[name] for name in expected)
    assert weights._metadata == expected._metadata


@pytest.mark.parametrize(
    'checkpoint, message',
    [
        (dict(state_dict={}), 'holds no weights'),
        (dict(meta={}), "'meta' is a dict"),
        (
            dict(state_dict={'distiller.a': torch.ones(1)}),
            r'holds no student: it has .distiller\.a',
        ),
        (dict(state_dict={'teacher.a': torch.ones(1)}), 'holds no student'),
        (
            dict(state_dict={'backbone.a': torch.ones(1), 'distiller.a': torch.ones(1)}),
            'holds no student',
        ),
        (
            dict(state_dict={'architecture.a': torch.ones(1), 'backbone.a': torch.ones(1)}),
            r'mixes architecture\.\* with .backbone\.a',
        ),
    ],
)
def test_what_fits_neither_form_is_refused(checkpoint, message):
    with pytest.raises(UsageError, match=message):
        student_state_dict(checkpoint)


# load_student


def test_load_student_loads_all():
    source, target = Net(), Net()
    nn.init.constant_(source.backbone.bn.running_mean, 3.0)
    load_student(target, source.state_dict(), 'a.pth')
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_load_student_names_what_is_missing_and_left_over():
    weights = Net().state_dict()
    del weights['backbone.bn.num_batches_tracked']  # files of old releases lack it
    load_student(Net(), weights, 'a.pth')

    del weights['backbone.bn.weight']
    weights['neck.weight'] = torch.ones(1)
    with pytest.raises(UsageError) as caught:
        load_student(Net(), weights, 'a.pth')
    assert str(caught.value) == (
        "a.pth does not fit the student of the config, Net: it lacks 'backbone.bn.weight', and it "
        "has besides 'neck.weight'; give the config that the checkpoint was trained with."
    )


def test_load_student_names_shapes():
    weights = Net().state_dict()
    weights['backbone.bn.weight'] = torch.ones(7)
    with pytest.raises(
        UsageError, match=r'backbone\.bn\.weight is \[7\] instead of \[3\]; give the config'
    ) as e:
        load_student(Net(), weights, 'a.pth')
    assert '\n' not in str(e.value)


def test_load_student_shortens_long_lists():
    with pytest.raises(UsageError, match=r"it lacks '.*', '.*', '.*' and 3 more;"):
        load_student(Net(), {}, 'a.pth')


# files


def write_full_checkpoint(path, **meta) -> Algorithm:
    algorithm = Algorithm()
    torch.save(
        dict(
            state_dict=algorithm.state_dict(),
            meta=dict(
                dataset_meta=dict(classes=('cat', 'dog')), epoch=4, cfg='teacher = 1', **meta
            ),
            optimizer=dict(state={}),
        ),
        path,
    )
    return algorithm


def test_export_keeps_student_and_dataset_meta_alone(tmp_path):
    algorithm = write_full_checkpoint(tmp_path / 'full.pth', student_cfg='model = 2')
    names = export_student(tmp_path / 'full.pth', tmp_path / 'new' / 'student.pth')

    exported = torch.load(tmp_path / 'new' / 'student.pth', weights_only=True)
    assert set(exported) == {'state_dict', 'meta'}
    assert exported['meta'] == dict(
        dataset_meta=dict(classes=('cat', 'dog')), epoch=4, cfg='model = 2'
    )
    assert names == list(exported['state_dict']) == list(algorithm.architecture.state_dict())
    student = Net()
    student.load_state_dict(exported['state_dict'], strict=True)
    assert torch.equal(student.backbone.bn.weight, algorithm.architecture.backbone.bn.weight)
    assert os.listdir(tmp_path / 'new') == ['student.pth']


def test_export_drops_a_distillation_config(tmp_path):
    write_full_checkpoint(tmp_path / 'full.pth')
    export_student(tmp_path / 'full.pth', tmp_path / 'student.pth')
    assert 'cfg' not in torch.load(tmp_path / 'student.pth', weights_only=True)['meta']


def test_export_of_a_student_keeps_its_config(tmp_path):
    save_student(tmp_path / 'a.pth', Net().state_dict(), dict(cfg='model = 3', epoch=1))
    export_student(tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert read_student(tmp_path / 'b.pth')[1] == dict(cfg='model = 3', epoch=1)


def test_export_into_a_folder_or_over_the_checkpoint_itself(tmp_path):
    source = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict={'a.weight': torch.zeros(1)}, optimizer=1), source)
    before = source.read_bytes()
    with pytest.raises(UsageError, match=r'is a folder: name a file in it, such as .*student\.pth'):
        export_student(source, tmp_path, force=True)
    (tmp_path / 'link.pth').symlink_to(source)
    for out in (source, tmp_path / 'link.pth'):
        with pytest.raises(UsageError, match='is the checkpoint itself'):
            export_student(source, out, force=True)
    assert source.read_bytes() == before
    assert export_student(source, tmp_path / 'new' / 'student.pth') == ['a.weight']


def test_export_does_not_overwrite_unasked(tmp_path):
    write_full_checkpoint(tmp_path / 'full.pth')
    (tmp_path / 'out.pth').write_text('precious')
    with pytest.raises(UsageError, match=r'out\.pth exists already.*--force'):
        export_student(tmp_path / 'full.pth', tmp_path / 'out.pth')
    assert (tmp_path / 'out.pth').read_text() == 'precious'
    export_student(tmp_path / 'full.pth', tmp_path / 'out.pth', force=True)
    assert 'state_dict' in torch.load(tmp_path / 'out.pth', weights_only=True)


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    save_student(tmp_path / 'a.pth', {'w': torch.ones(1)}, {})

    def stop(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', stop)
    with pytest.raises(KeyboardInterrupt):
        save_student(tmp_path / 'a.pth', {'w': torch.zeros(1)}, {})
    assert os.listdir(tmp_path) == ['a.pth']
    assert read_student(tmp_path / 'a.pth')[0] == {'w': torch.ones(1)}


def test_error_names_the_file(tmp_path):
    torch.save(dict(state_dict={'teacher.a': torch.ones(1)}), tmp_path / 'teacher.pth')
    with pytest.raises(UsageError, match=r'teacher\.pth: the checkpoint holds no student'):
        read_student(tmp_path / 'teacher.pth')
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        read_student(tmp_path / 'nothing.pth')
