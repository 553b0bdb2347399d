import errno
import re
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.cli.explain import explain, explained_errors
from dpk_mm.errors import UsageError
from dpk_mm.functional import num_masked_tokens
from dpk_mm.modules.tokens import sinusoid_table

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope='module')
def cfg():
    return Config.fromfile(ROOT / 'configs' / 'mini' / 'faster_rcnn_dpk.py')


def error_of(function, *args, **kwargs):
    with pytest.raises(Exception) as caught:  # noqa: B017
        function(*args, **kwargs)
    return caught.value


def build(cfg, registry=MODELS, **changes):
    node = dict(cfg, **changes)
    return error_of(registry.build, node)


def changed(cfg, **options):
    cfg = Config(cfg._cfg_dict.to_dict())
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return cfg


def test_a_type_is_found_in_the_config_and_the_nearest_name_offered(cfg):
    cfg = changed(cfg, model__architecture__backbone__type='ResNett')
    error = build(cfg.model.architecture.backbone, _scope_='mmdet')
    assert explain(error, cfg) == (
        'model.architecture.backbone.type: there is no model ResNett; did you mean ResNet?'
    )


def test_a_name_of_another_package_is_offered_with_its_scope(cfg):
    cfg = changed(cfg, custom_hooks=[dict(type='CKAMaskRatioHok')])
    error = build(cfg.custom_hooks[0], HOOKS)
    assert explain(error, cfg) == (
        'custom_hooks.0.type: there is no hook CKAMaskRatioHok; did you mean '
        'mmrazor.CKAMaskRatioHook?'
    )


def test_a_known_name_without_its_scope(cfg):
    cfg = changed(cfg, custom_hooks=[dict(type='StudentCheckpointHook')])
    error = build(cfg.custom_hooks[0], HOOKS)
    assert 'did you mean mmrazor.StudentCheckpointHook?' in explain(error, cfg)


def test_a_name_like_no_other(cfg):
    cfg = changed(cfg, custom_hooks=[dict(type='Qqqqqq')])
    said = explain(build(cfg.custom_hooks[0], HOOKS), cfg)
    assert re.search(r'there is no hook Qqqqqq, and none of the \d+ known ones', said)
    assert 'custom_imports' in said


def test_an_argument(cfg):
    cfg = changed(cfg, model__architecture__backbone__deph=18)
    error = build(cfg.model.architecture.backbone, _scope_='mmdet')
    assert explain(error, cfg) == (
        'model.architecture.backbone.deph: ResNet has no argument deph; did you mean depth?'
    )


def test_an_argument_like_no_other_lists_what_there_is():
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', learning_rate=0.1))))
    error = error_of(torch.optim.SGD, [nn.Parameter(torch.ones(1))], learning_rate=0.1)
    said = explain(error, cfg)
    assert said.startswith('optim_wrapper.optimizer.learning_rate: SGD has no argument')
    assert 'it has params, lr, momentum' in said


def test_an_argument_of_a_base_class(cfg):
    cfg = changed(cfg, model__architecture__rpn_hed=dict(type='RPNHead'))
    node = dict(cfg.model.architecture, _scope_='mmdet')
    said = explain(error_of(MODELS.build, node), cfg)
    assert said.startswith('model.architecture.rpn_hed: ')
    assert 'has no argument rpn_hed; did you mean rpn_head?' in said


def test_a_missing_argument():
    cfg = Config(dict(param_scheduler=[dict(type='MultiStepLR', by_epoch=True)]))
    error = TypeError("MultiStepLR.__init__() missing 1 required positional argument: 'milestones'")
    assert explain(error, cfg) == (
        'param_scheduler.0: MultiStepLR needs milestones, which the config does not give.'
    )


def test_a_type_that_mmengine_does_not_name():
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='AdamX'))))
    assert explain(TypeError('None is not a callable object'), cfg) == (
        'optim_wrapper.optimizer.type: there is no optimizer AdamX; did you mean Adam?'
    )
    cfg.optim_wrapper.optimizer.type = 'AdamW'
    assert explain(TypeError('None is not a callable object'), cfg) is None


def test_a_data_set_whose_files_are_not_there(tmp_path):
    from mmpretrain.datasets import FashionMNIST

    cfg = Config(
        dict(train_dataloader=dict(dataset=dict(type='FashionMNIST', data_root=str(tmp_path))))
    )
    with pytest.raises(RuntimeError) as caught:
        FashionMNIST(data_root=str(tmp_path), split='train', download=False)
    assert explain(caught.value, cfg) == (
        f'train_dataloader.dataset.data_root = {tmp_path}: the files of FashionMNIST are not there; unpack them '
        'there, set data_root to where they are, or let mmpretrain fetch them with download=True beside it.'
    )


def missing(path):
    return FileNotFoundError(errno.ENOENT, 'No such file or directory', path)


def test_files_of_a_data_set(cfg, tmp_path):
    cfg = changed(cfg, train_dataloader__dataset__data_root=f'{tmp_path}/')
    assert explain(missing(f'{tmp_path}/annotations/train.json'), cfg) == (
        'train_dataloader.dataset.ann_file = annotations/train.json (in '
        f'train_dataloader.dataset.data_root, {tmp_path}/): {tmp_path}/annotations/train.json does '
        f'not exist, nor does the folder {tmp_path}/annotations; set the path to where the data are.'
    )
    (tmp_path / 'train').mkdir()
    said = explain(missing(f'{tmp_path}/train/7.png'), cfg)
    assert said.startswith('train_dataloader.dataset.data_prefix.img = train/ (in ')
    assert f'{tmp_path}/train/7.png does not exist, but its folder does' in said
    said = explain(
        missing('/nowhere/val.json'), changed(cfg, val_evaluator__ann_file='/nowhere/val.json')
    )
    assert said.startswith('val_evaluator.ann_file = /nowhere/val.json: ')


def test_an_error_of_a_data_worker(cfg):
    text = (
        'Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback ...\n'
        "FileNotFoundError: [Errno 2] No such file or directory: 'data/shapes/train/3.png'\n"
    )
    said = explain(FileNotFoundError(text), cfg)
    assert said.startswith('train_dataloader.dataset.data_prefix.img = train/ ')
    assert '\n' not in said


def test_a_full_disk_while_logging():
    error = OSError(errno.ENOSPC, 'No space left on device', 'run/scalars.json')
    assert explain(error, Config({})) == 'run/scalars.json: No space left on device.'


class Toy(nn.Module):
    def __init__(self, teacher=8):
        super().__init__()
        self.architecture = nn.Sequential(
            OrderedDict(stem=nn.Conv2d(3, 4, 1), neck=nn.Conv2d(8, 2, 1))
        )
        object.__setattr__(
            self, 'teacher', nn.Sequential(OrderedDict(stem=nn.Conv2d(3, teacher, 1)))
        )


def runner(model, iteration=0):
    return SimpleNamespace(model=model, _train_loop=SimpleNamespace(_iter=iteration))


def test_channels_that_do_not_match():
    model = Toy()
    error = error_of(model.architecture, torch.zeros(1, 3, 2, 2))
    said = explain(error, Config({}), runner(model))
    assert said.startswith('model.architecture.neck is built for 8 channels, but gets 4')
    assert explain(error, Config({}), runner(model, iteration=3)) is None  # not the config's then
    error = error_of(model.teacher, torch.zeros(1, 5, 2, 2))
    assert 'model.teacher.stem is built for 3' in explain(error, Config({}), runner(model))


def test_teacher_and_student_swapped(tmp_path):
    model = Toy(teacher=8)
    path = str(tmp_path / 'teacher.pth')
    cfg = Config(dict(model=dict(teacher_ckpt=path)))
    error = UsageError(f'teacher_ckpt: {path!r} does not fit the teacher of the config: shapes.')
    torch.save(model.architecture.state_dict(), path)
    assert explain(error, cfg, runner(model)) == (
        f'teacher_ckpt: {path!r} does not fit the teacher of the config: shapes; it does fit the '
        'student, model.architecture, so this is a checkpoint of the student, or the two are swapped '
        'in the config.'
    )
    torch.save(dict(stem=torch.ones(1)), path)
    assert explain(error, cfg, runner(model)) is None


def test_defects_keep_their_traceback(cfg):
    def defect():
        return [][3]

    assert explain(error_of(defect), cfg) is None
    with pytest.raises(IndexError), explained_errors(cfg):
        defect()


class Built:
    def __init__(self, known):
        pass

    def forward(self, known):
        pass


def collate(samples, dim):
    pass


@pytest.mark.parametrize('arguments', [dict(foo=1), {}], ids=['unknown', 'missing'])
def test_only_what_builds_a_class_is_about_the_config(cfg, arguments):
    forward = error_of(Built(0).forward, **arguments)
    assert re.search(r'Built\.forward\(\) (got an unexpected|missing)', str(forward))
    assert explain(forward, changed(cfg, custom_hooks=[dict(type='Built', foo=1)])) is None
    function = error_of(collate, [], **arguments)
    assert explain(function, cfg) is None
    for error in (forward, TypeError(str(forward).replace('Built.', ''))):  # as before Python 3.10
        with pytest.raises(TypeError) as kept, explained_errors(cfg):
            raise error
        assert kept.value is error

    said = explain(function, changed(cfg, train_dataloader__collate_fn=dict(type='collate')))
    assert said.startswith(
        'collate has no argument foo' if arguments else 'train_dataloader.collate_fn: collate needs'
    )
    built = explain(error_of(Built, **arguments), cfg)
    assert built.startswith('Built has no argument foo' if arguments else 'Built needs known')


def test_a_class_that_the_config_does_not_name_is_a_defect_once_trained(cfg):
    error = error_of(Built)
    assert explain(error, cfg, runner(None, iteration=3)) is None
    named = changed(cfg, custom_hooks=[dict(type='Built')])
    assert explain(error, named, runner(None, iteration=3)) == (
        'custom_hooks.0: Built needs known, which the config does not give.'
    )


def test_a_bare_name_of_a_registered_class(cfg):
    error = TypeError("ResNet() got an unexpected keyword argument 'deph'")
    assert explain(error, cfg) == 'ResNet has no argument deph; did you mean depth?'


@pytest.mark.parametrize('trained', [0, 3])
def test_a_check_of_ours_is_a_sentence_and_a_failed_operation_a_defect(cfg, trained):
    check = error_of(num_masked_tokens, 4, 2.0)
    said = explain(check, cfg, runner(None, trained))
    assert said == 'mask_ratio must be in [0, 1], but is 2.0.'
    for defect in (error_of(num_masked_tokens, 4, None), error_of(sinusoid_table, 'x', 2)):
        assert isinstance(defect, TypeError)
        assert explain(defect, cfg, runner(None, trained)) is None


def test_what_is_explained_is_a_usage_error(cfg):
    cfg = changed(cfg, custom_hooks=[dict(type='mmrazor.FixedMaskRatioHok')])
    with pytest.raises(UsageError, match=r'custom_hooks\.0\.type') as error, explained_errors(cfg):
        HOOKS.build(cfg.custom_hooks[0])
    assert isinstance(error.value.__cause__, KeyError)
