"""The shared options, and keys of --cfg-options that lead somewhere else than they seem to, or nowhere."""

import argparse
import json
import os

import pytest
from mmengine.config import Config

import dpk_mm  # noqa: F401
from dpk_mm.cli.options import (
    add_common_arguments,
    apply_common_arguments,
    load_config,
    unread_in_test,
)
from dpk_mm.errors import UsageError
from tests.helpers.small_config import write_small_config
from tests.helpers.small_runs import classifier

TEXT = """
max_epochs = 12
test_pipeline = [dict(type='Load', size=3)]
default_scope = 'mmdet'
model = dict(
    _scope_='mmrazor', type='DPKDistill', teacher_ckpt='t.pth',
    architecture=dict(
        _scope_='mmdet', type='RetinaNet', backbone=dict(type='ResNet', depth=18),
        test_cfg=dict(score_thr=0.05, nms=dict(type='nms'))),
    teacher=dict(_scope_='mmdet', type='RetinaNet', backbone=dict(type='ResNet', depth=50)))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
test_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=test_pipeline))
env_cfg = dict(cudnn_benchmark=False)
"""


@pytest.fixture
def small_config(tmp_path):
    return write_small_config(tmp_path)


@pytest.fixture
def config_file(tmp_path):
    (tmp_path / 'a.py').write_text(TEXT)
    return str(tmp_path / 'a.py')


def test_a_setting_of_the_student_reaches_it(config_file, capsys):
    options = {'model.test_cfg.score_thr': 0.5, 'model.backbone.depth': 34}
    options |= {'model.train_cfg.pos_weight': 2}  # not in the config; an argument of RetinaNet
    cfg = load_config(config_file, options)
    student = cfg.model.architecture
    assert student.test_cfg == dict(score_thr=0.5, nms=dict(type='nms'))
    assert student.backbone.depth == 34 and cfg.model.teacher.backbone.depth == 50
    assert student.train_cfg.pos_weight == 2
    said = capsys.readouterr().err
    assert 'model.test_cfg.score_thr is taken as model.architecture.test_cfg.score_thr' in said


def test_settings_of_the_algorithm_stay_there(config_file, capsys):
    options = {'model.teacher_ckpt': 'b.pth', 'model.student_ckpt': 's.pth'}
    options |= {'model.data_preprocessor.mean': [1], 'model.init_cfg.type': 'Pretrained'}
    cfg = load_config(config_file, options)
    assert cfg.model.teacher_ckpt == 'b.pth' and cfg.model.student_ckpt == 's.pth'
    assert cfg.model.data_preprocessor.mean == [1] and cfg.model.init_cfg.type == 'Pretrained'
    assert capsys.readouterr().err == ''


def test_a_setting_of_the_preprocessor_goes_to_the_one_that_is_used(tmp_path, capsys):
    """A new one in model would take its place, without mean and std."""
    own = 'data_preprocessor=dict(mean=[1], std=[2]), backbone='
    key, file = 'model.data_preprocessor.pad_size_divisor', tmp_path / 'own.py'
    file.write_text(TEXT.replace('backbone=', own, 1))
    cfg = load_config(str(file), {key: 64})
    assert 'data_preprocessor' not in cfg.model
    assert cfg.model.architecture.data_preprocessor == dict(mean=[1], std=[2], pad_size_divisor=64)
    assert 'is taken as model.architecture.data_preprocessor.pad_size' in capsys.readouterr().err
    file.write_text(f'{file.read_text()}data_preprocessor = dict(mean=[3], std=[4])\n')
    cfg = load_config(str(file), {key: 64})
    assert 'data_preprocessor' not in cfg.model  # the Runner puts that at the top there
    assert cfg.data_preprocessor == dict(mean=[3], std=[4], pad_size_divisor=64)
    assert cfg.model.architecture.data_preprocessor == dict(mean=[1], std=[2])
    assert 'is taken as data_preprocessor.pad_size_divisor: ' in capsys.readouterr().err
    file.write_text(f"{file.read_text()}model['data_preprocessor'] = dict(mean=[5], std=[6])\n")
    cfg = load_config(str(file), {key: 64})
    assert cfg.model.data_preprocessor == dict(mean=[5], std=[6], pad_size_divisor=64)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    'key, message',
    [
        ('model.tset_cfg.score_thr', 'did you mean model.architecture.test_cfg.score_thr'),
        ('model.teacher_chkpt', 'did you mean model.teacher_ckpt'),
        ('model.nothing_like_it', 'neither the algorithm DPKDistill nor its student RetinaNet has'),
        ('model.test_cfg.scor_thr', 'did you mean model.architecture.test_cfg.score_thr'),
        ('env_cfg.cudnn_benchmrk', 'did you mean env_cfg.cudnn_benchmark'),
        ('max_epochs', r'variable of the config file.*; set train_cfg.max_epochs\.$'),
        ('test_pipeline.0.size', r'; set test_dataloader.dataset.pipeline.0.size\.$'),
        ('foo', 'the config has no foo, and nothing reads one'),
    ],
)
def test_keys_that_nothing_reads(config_file, key, message):
    with pytest.raises(UsageError, match=f'^--cfg-options .*{message}'):
        load_config(config_file, {key: 1})


def test_a_new_dict_may_be_named_like_its_neighbour(config_file):
    cfg = load_config(config_file, {'model.architecture.test_cfg.nms2': dict(type='soft_nms')})
    assert cfg.model.architecture.test_cfg.nms2.type == 'soft_nms'


def test_code_of_the_user_may_read_a_variable(tmp_path, config_file, capsys):
    own = tmp_path / 'own.py'
    own.write_text(f"{TEXT}\ncustom_imports = dict(imports=['dpk_mm', 'json'])\n")
    assert load_config(str(own), {'max_epochs': 3}).max_epochs == 3
    assert 'warning: --cfg-options max_epochs' in capsys.readouterr().err


def test_what_a_test_does_not_read():
    options = {'train_cfg.max_epochs': 1, 'model.teacher.backbone.depth': 18, 'model.head.x': 1}
    (line,) = unread_in_test({**options, 'test_dataloader.batch_size': 2})
    assert line.startswith(
        '--cfg-options train_cfg.max_epochs model.teacher.backbone.depth: a test'
    )
    assert (
        unread_in_test({'test_dataloader.batch_size': 2, 'model.teacher_forward': 'logits'}) == []
    )


def test_common_arguments():
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    args = parser.parse_args(
        ['--cfg-options', 'model.depth=18', 'data.scale=(1,2)']
        + ['--launcher', 'pytorch', '--local-rank', '3']
    )
    assert args.cfg_options == {'model.depth': 18, 'data.scale': (1, 2)}
    assert (args.launcher, args.local_rank, args.work_dir) == ('pytorch', 3, None)


def test_work_dir_goes_by_option_then_config_then_name(small_config):
    assert load_config(small_config).work_dir == os.path.join('./work_dirs', 'my_config')
    options = {'work_dir': 'from_config'}
    assert load_config(small_config, options).work_dir == 'from_config'
    assert load_config(small_config, options, 'from_option').work_dir == 'from_option'


def test_options_replace_settings(small_config):
    cfg = load_config(
        small_config,
        {
            'optim_wrapper.optimizer.lr': 0.5,
            'train_dataloader.dataset.pipeline.0.size': 7,
            'randomness.seed': 1,
            'find_unused_parameters': True,
            'model.new_setting': 2,
        },
    )
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.5)
    assert cfg.train_dataloader.dataset.pipeline == [dict(type='Load', size=7)]
    assert cfg.randomness.seed == 1 and cfg.find_unused_parameters is True
    assert cfg.model.new_setting == 2


@pytest.mark.parametrize(
    'key, meant',
    [
        ('modle.type', 'model.type'),
        ('optim_wrapper.optimiser.lr', 'optim_wrapper.optimizer.lr'),
        ('loadfrom', 'load_from'),
        ('train_dataloder.batch_size', 'train_dataloader.batch_size'),
    ],
)
def test_typing_errors_in_options_are_named(small_config, key, meant):
    with pytest.raises(UsageError, match=f'--cfg-options {key}: .* did you mean {meant}'):
        load_config(small_config, {key: 1})


@pytest.mark.parametrize(
    ('key', 'found'),
    [
        ('load_from.name', "load_from is 'weights.pth', which has no parts"),
        ('train_dataloader.dataset.pipeline.3.size', 'pipeline is a list of 1, .* but found 3'),
        ('train_dataloader.dataset.pipeline.size', 'pipeline is a list of 1, .* but found size'),
        ('model.teacher_ckpt.0', "model.teacher_ckpt is 'old.pth', which has no parts"),
    ],
)
def test_keys_that_lead_nowhere(small_config, key, found):
    with pytest.raises(UsageError, match=f'--cfg-options {key}: .*{found}'):
        load_config(small_config, {key: 1})


def test_traceback_is_asked_for_through_the_environment(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '2')
    monkeypatch.delenv('DPK_TRACEBACK', raising=False)
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    apply_common_arguments(parser.parse_args(['--local-rank', '3']))
    assert os.environ['LOCAL_RANK'] == '2' and 'DPK_TRACEBACK' not in os.environ
    monkeypatch.setenv('DPK_TRACEBACK', '')  # so that it is taken back afterwards
    apply_common_arguments(parser.parse_args(['--traceback']))
    assert os.environ['DPK_TRACEBACK'] == '1'


def test_missing_config_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match='there is no config .*nothing.py'):
        load_config(str(tmp_path / 'nothing.py'))


def test_a_short_config_is_completed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the work folder goes
    path = tmp_path / 'short.py'
    path.write_text(
        f"default_scope = 'mmpretrain'\nmodel = dict(type='DPKDistill', _scope_='mmrazor', teacher_ckpt=None, "
        f"method='kd', input_size=64, architecture={classifier(8)!r}, teacher={classifier(16)!r})\n"
    )
    key = 'model.distiller.distill_losses.loss_kd.tau'
    cfg = load_config(str(path), {key: 7.0, 'model.backbone.depth': 34}, print_choices=True)
    assert cfg.model.distiller.distill_losses.loss_kd == dict(
        type='KDLoss', tau=7.0, loss_weight=0.8
    )
    assert cfg.model.architecture.backbone.depth == 34
    assert 'method' not in cfg.model
    assert cfg.work_dir == './work_dirs/short'
    out = capsys.readouterr().out
    assert 'records.logits' in out
    assert 'head.fc' in out
    monkeypatch.setenv('RANK', '1')
    load_config(str(path), print_choices=True)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('key', ['model.architecture.backbone.depth', 'model.backbone.depth'])
def test_the_student_of_a_config_of_two_lines(tmp_path, monkeypatch, key):
    """The student's own keys stand in model, too: the base has merged them into it."""
    monkeypatch.chdir(tmp_path)
    student = dict(default_scope='mmpretrain', model=classifier(8))
    Config(student).dump('student.py')
    model = f"type='DPKDistill', _scope_='mmrazor', architecture=_base_.model, teacher={classifier(16)!r}"
    text = f"model = dict({model}, teacher_ckpt=None, method='kd', input_size=64)"
    (tmp_path / 'two.py').write_text(f"_base_ = './student.py'\n{text}\n")
    cfg = load_config('two.py', {key: 34})
    assert cfg.model.architecture.backbone.depth == 34 and 'backbone' not in cfg.model
    assert load_config('two.py').model.architecture.backbone.depth == 18


def test_the_keys_of_the_short_form_need_not_stand_in_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = dict(
        type='DPKDistill',
        _scope_='mmrazor',
        architecture=classifier(16),
        teacher=classifier(8),
        teacher_ckpt=None,
        method='kd',
    )
    Config(dict(default_scope='mmpretrain', model=model)).dump(tmp_path / 'short.py')
    options = {'model.input_size': 64, 'model.smaller_teacher': True}
    cfg = load_config('short.py', options)
    assert cfg.model.teacher.backbone.base_channels == 8
    # and only there: nothing would read them in the explicit form
    cfg.dump('explicit.py')
    with pytest.raises(UsageError, match='neither the algorithm DPKDistill nor'):
        load_config('explicit.py', options)


def test_what_was_chosen_for_a_short_config_is_in_the_work_folder(tmp_path, capsys):
    model = dict(
        type='DPKDistill',
        _scope_='mmrazor',
        architecture=classifier(),
        teacher=classifier(16),
        teacher_ckpt=None,
        method='kd',
    )
    file, folder = tmp_path / 'short.py', tmp_path / 'run'
    dataset = dict(type='Own', pipeline=[dict(type='Resize', scale=(64, 64))])
    loader = dict(batch_size=4, dataset=dataset)
    Config(dict(default_scope='mmpretrain', model=model, train_dataloader=loader)).dump(file)
    load_config(str(file), None, str(folder))
    assert not folder.exists()
    load_config(str(file), None, str(folder), print_choices=True)
    rows = json.loads((folder / 'chosen.json').read_text())
    assert ['records.logits', 'head.fc'] in [row[:2] for row in rows]
    said = capsys.readouterr().out
    assert all(what in said and why in said for what, _, why in rows)
