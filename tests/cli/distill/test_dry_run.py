"""Dry runs of small networks, in this process."""

import pytest

from dpk_mm.cli.distill import dry_run as module
from dpk_mm.cli.distill.dry_run import dry_run
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import write_class_folders

STUDENT = """
_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
model = dict(backbone=dict(base_channels=8, stem_channels=8), head=dict(in_channels=64, num_classes=3, topk=(1,)))
data = dict(type='CustomDataset', data_root={root!r}, with_label=True, pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')])
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(_delete_=True, data_prefix='train', **data))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                      dataset=dict(_delete_=True, data_prefix='val', **data))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
"""
DISTILL = """
_base_ = './student.py'
custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
model = dict(_delete_=True, _scope_='mmrazor', type='DPKDistill', architecture=_base_.model,
             teacher=_base_.model, teacher_ckpt={ckpt!r}, method={method!r})
"""


@pytest.fixture
def configs(tmp_path):
    root = f'{write_class_folders(tmp_path / "data")}/'

    def write(method='kd', ckpt=None):
        (tmp_path / 'student.py').write_text(STUDENT.format(root=root))
        (tmp_path / 'distill.py').write_text(DISTILL.format(method=method, ckpt=ckpt))
        return tmp_path

    return write


def test_a_distillation_is_trained_validated_and_exported(configs, capsys):
    folder = configs(ckpt='https://nowhere/teacher.pth')  # which is not fetched
    dry_run(str(folder / 'distill.py'), str(folder / 'dry'))
    assert (folder / 'dry' / 'student.pth').is_file()
    assert 'dry run: training, validation and export' in capsys.readouterr().out


def test_the_default_of_classifiers(configs, capsys):
    """CKA of images is not defined for fewer than four of them."""
    folder = configs(method='kd+dpk')
    config = folder / 'distill.py'
    text = config.read_text()
    config.write_text(text + 'train_dataloader = dict(batch_size=16)\n')
    dry_run(str(config), str(folder / 'dry'))
    assert 'dry run: training, validation and export' in capsys.readouterr().out


def test_a_plain_model(configs, capsys):
    folder = configs()
    dry_run(str(folder / 'student.py'), str(folder / 'dry'))
    assert 'dry run: training, validation\n' in capsys.readouterr().out


def test_images_are_drawn_where_there_are_none(configs, capsys):
    folder = configs()
    (folder / 'data').rename(folder / 'moved')
    dry_run(str(folder / 'distill.py'), str(folder / 'dry'))
    assert 'the dry run is on drawn images' in capsys.readouterr().out


def test_what_does_not_work_is_one_sentence(configs, capsys):
    folder = configs(ckpt='nowhere.pth')
    with pytest.raises(SystemExit) as error:
        dry_run(str(folder / 'distill.py'), str(folder / 'dry'))
    assert str(error.value).startswith("dry run: teacher_ckpt: 'nowhere.pth' does not exist")


def test_the_weights_that_a_training_starts_from_are_left_out(configs, monkeypatch):
    folder = configs()
    text = (folder / 'student.py').read_text()
    (folder / 'student.py').write_text(f"{text}load_from = 'https://nowhere/start.pth'\n")

    def stop(cfg):
        raise UsageError(f'load_from is {cfg.load_from}')

    monkeypatch.setattr(module, 'build_runner', stop)
    with pytest.raises(SystemExit, match='load_from is None'):
        dry_run(str(folder / 'student.py'), str(folder / 'dry'))


def test_a_schedule_that_would_begin_after_the_end(configs):
    """Six images, two a batch: the whole training has 200 times three iterations."""
    folder = configs()
    text = (folder / 'student.py').read_text()
    schedule = dict(type='PolyLR', by_epoch=False, begin=5000)
    (folder / 'student.py').write_text(f'{text}param_scheduler = [{schedule!r}]\n')
    with pytest.raises(SystemExit, match=r'PolyLR .* begins at iteration 5000, .* \(at 600\)'):
        dry_run(str(folder / 'student.py'), str(folder / 'dry'))
