import copy

import pytest
from mmdet.engine.hooks import DetVisualizationHook
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, ApexOptimWrapper, OptimWrapper
from mmengine.registry import LOOPS
from mmrazor.engine.runner import SingleTeacherDistillValLoop as RazorValLoop

from dpk_mm.cli.options import load_config
from dpk_mm.engine.hooks import SingleTeacherDistillValLoop
from dpk_mm.engine.runner.prepare import named_for_test, prepare_config, prepare_test_config
from dpk_mm.errors import UsageError
from tests.helpers.small_config import write_small_config


@pytest.fixture
def config_file(tmp_path):
    return write_small_config(tmp_path)


# prepare_config


def test_nothing_asked_changes_nothing_but_the_launcher(config_file):
    cfg, before = load_config(config_file), load_config(config_file)
    prepare_config(cfg)
    assert cfg.to_dict() == {**before.to_dict(), 'launcher': 'none'}


@pytest.mark.parametrize('kind', ['SingleTeacherDistillValLoop', RazorValLoop])
def test_the_validation_loop_of_mmrazor_is_ours_by_name(config_file, kind):
    cfg = load_config(config_file)
    cfg.val_cfg = dict(type=kind)
    prepare_config(cfg)
    assert LOOPS.get(cfg.val_cfg.type) is SingleTeacherDistillValLoop


def test_resume(config_file, tmp_path):
    cfg = prepare_config(load_config(config_file, {'load_from': None}), resume='auto')
    assert (cfg.resume, cfg.load_from) == (True, None)

    checkpoint = tmp_path / 'epoch_1.pth'
    with pytest.raises(UsageError, match=r'--resume: there is no checkpoint .*epoch_1\.pth'):
        prepare_config(load_config(config_file), resume=str(checkpoint))
    checkpoint.touch()
    cfg = prepare_config(load_config(config_file), resume=str(checkpoint))
    assert (cfg.resume, cfg.load_from) == (True, str(checkpoint))


@pytest.mark.parametrize('left', [None, 'epoch_1.pth', 'last_checkpoint'])
def test_resume_in_an_empty_folder_keeps_the_starting_weights(
    config_file, tmp_path, capsys, monkeypatch, left
):
    folder = tmp_path / 'run'
    folder.mkdir()
    if left:
        (folder / left).write_text('epoch_1.pth')
    options = {'work_dir': str(folder), 'load_from': 'start.pth'}
    cfg = prepare_config(load_config(config_file, options), resume='auto')
    assert (cfg.resume, cfg.load_from) == ((True, None) if left else (False, 'start.pth'))
    said = capsys.readouterr().err
    if left:
        assert said == ''
        return
    assert said.startswith(
        f'--resume: there is no checkpoint in {folder}: the training starts anew'
    )
    assert 'load_from = start.pth' in said and said.count('\n') == 1
    monkeypatch.setenv('RANK', '1')  # the first one speaks for all
    prepare_config(load_config(config_file, options), resume='auto')
    assert capsys.readouterr().err == ''
    # and what such a start refuses is refused
    with pytest.raises(UsageError, match='load_from = start.pth would replace'):
        prepare_config(
            load_config(config_file, {**options, 'model.student_ckpt': 'a.pth'}), resume='auto'
        )


PARTS = {'optim_wrapper': dict(student=dict(optimizer={}), modules=dict(optimizer={}))}
STEPS = [dict(type='StepLR', step_size=1)]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {**PARTS, 'param_scheduler': dict(student=STEPS)},
            r'is a dict of student, but .* the parts student, modules: add param_scheduler\.modules',
        ),
        ({'param_scheduler': dict(student=STEPS)}, 'a dict of student, .* has one optimizer'),
        ({**PARTS, 'param_scheduler': dict(student=STEPS, modules=[])}, None),
        ({**PARTS, 'param_scheduler': STEPS}, None),
        ({**PARTS, 'param_scheduler': STEPS[0]}, None),
    ],
)
def test_a_schedule_for_each_part(config_file, options, message):
    cfg = load_config(config_file)
    for key, value in options.items():
        cfg[key] = value
    if message is None:
        prepare_config(cfg)
        return
    with pytest.raises(UsageError, match=message):
        prepare_config(cfg)


def test_amp(config_file, gpu):
    cfg = prepare_config(load_config(config_file), amp=True)
    assert cfg.optim_wrapper == dict(
        type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(type='SGD', lr=0.02)
    )
    cfg = load_config(config_file, {'optim_wrapper.loss_scale': 512})
    assert prepare_config(cfg, amp=True).optim_wrapper.loss_scale == 512
    cfg = load_config(config_file, {'optim_wrapper.type': 'ApexOptimWrapper'})
    with pytest.raises(UsageError, match='has ApexOptimWrapper'):
        prepare_config(cfg, amp=True)


def test_amp_of_a_class(config_file, gpu):
    """As configs of Python import it."""
    cfg = load_config(config_file)
    cfg.optim_wrapper.type = OptimWrapper
    assert prepare_config(cfg, amp=True).optim_wrapper.type == 'AmpOptimWrapper'
    cfg.optim_wrapper.type = ApexOptimWrapper
    with pytest.raises(UsageError, match='has ApexOptimWrapper'):
        prepare_config(cfg, amp=True)


@pytest.mark.parametrize(
    'amp, expected',
    [
        ('fp16', dict(dtype='float16', loss_scale='dynamic')),
        ('bf16', dict(dtype='bfloat16', loss_scale=dict(enabled=False))),
    ],
)
def test_amp_by_name(config_file, gpu, amp, expected):
    cfg = prepare_config(load_config(config_file), amp=amp)
    optimizer = dict(type='SGD', lr=0.02)
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', optimizer=optimizer, **expected)


def test_amp_of_another_name(config_file, gpu):
    with pytest.raises(UsageError, match='--amp fp8: fp16 or bf16 was expected'):
        prepare_config(load_config(config_file), amp='fp8')


def separate_wrappers(config_file):
    cfg = load_config(config_file)
    cfg.optim_wrapper = dict(
        constructor='mmrazor.SeparateOptimWrapperConstructor',
        architecture=dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1)),
        distiller=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.001)),
    )
    return cfg


def test_amp_of_several_optimizers(config_file, gpu):
    cfg = prepare_config(separate_wrappers(config_file), amp=True)
    amp = dict(type='AmpOptimWrapper', loss_scale='dynamic')
    assert cfg.optim_wrapper == dict(
        constructor='mmrazor.SeparateOptimWrapperConstructor',
        architecture=dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1), **amp),
        distiller=dict(optimizer=dict(type='AdamW', lr=0.001), **amp),
    )
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.distiller.type = 'ApexOptimWrapper'
    with pytest.raises(UsageError, match=r'optim_wrapper\.distiller\.type .* has ApexOptimWrapper'):
        prepare_config(cfg, amp=True)


def test_amp_of_several_optimizers_that_share_settings(config_file, gpu):
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.loss_scale = 512.0
    prepare_config(cfg, amp=True)
    assert {cfg.optim_wrapper[part].loss_scale for part in ('architecture', 'distiller')} == {512.0}
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(UsageError, match=r'optim_wrapper\.architecture\.type .* ApexOptimWrapper'):
        prepare_config(cfg, amp=True)


@pytest.mark.parametrize('amp', [True, 'fp16'])
def test_fp16_without_gpu_is_refused(config_file, cpu, amp):
    with pytest.raises(UsageError, match='--amp needs a GPU.*--amp bf16'):
        prepare_config(load_config(config_file), amp=amp)


def test_bf16_without_gpu(config_file, cpu):
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.update(dtype='float16', loss_scale=2.0)
    prepare_config(cfg, amp='bf16')
    assert 'dtype' not in cfg.optim_wrapper and 'loss_scale' not in cfg.optim_wrapper
    assert cfg.optim_wrapper.architecture == dict(
        type='mmrazor.CPUAmpOptimWrapper',
        optimizer=dict(type='SGD', lr=0.1),
        clip_grad=dict(max_norm=1),
    )
    assert cfg.optim_wrapper.distiller.type == 'mmrazor.CPUAmpOptimWrapper'


@pytest.mark.parametrize(
    ('settings', 'expected', 'words'),
    [
        (dict(loss_scale='dynamic'), 'OptimWrapper', 'float32'),
        (dict(type=AmpOptimWrapper), 'OptimWrapper', 'float32'),
        (dict(dtype='bfloat16'), 'mmrazor.CPUAmpOptimWrapper', 'bfloat16'),
    ],
)
def test_amp_of_a_config_without_a_gpu(config_file, cpu, capsys, settings, expected, words):
    optimizer = dict(type='SGD', lr=0.1)
    cfg = load_config(config_file)
    cfg.optim_wrapper = dict(dict(type='AmpOptimWrapper', optimizer=optimizer), **settings)
    prepare_config(cfg)
    assert cfg.optim_wrapper == dict(type=expected, optimizer=optimizer)
    assert f'{expected} is used, {words}' in capsys.readouterr().err


def test_amp_of_a_config_that_several_wrappers_share(config_file, cpu):
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.type = cfg.optim_wrapper.distiller.type = 'AmpOptimWrapper'
    prepare_config(cfg)
    assert cfg.optim_wrapper.type == cfg.optim_wrapper.distiller.type == 'OptimWrapper'


def test_amp_of_a_config_with_a_gpu(config_file, gpu):
    cfg = load_config(config_file)
    cfg.optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    assert prepare_config(cfg).optim_wrapper.type == 'AmpOptimWrapper'


def test_auto_scale_lr(config_file):
    cfg = prepare_config(load_config(config_file), auto_scale_lr=True)
    assert cfg.auto_scale_lr == dict(base_batch_size=16, enable=True)
    cfg.pop('auto_scale_lr')
    with pytest.raises(UsageError, match='base_batch_size'):
        prepare_config(cfg, auto_scale_lr=True)


def test_teacher_ckpt(config_file, tmp_path):
    teacher = tmp_path / 'teacher.pth'
    with pytest.raises(UsageError, match=r'there is no file .*teacher\.pth'):
        prepare_config(load_config(config_file), teacher_ckpt=str(teacher))
    teacher.touch()
    cfg = prepare_config(load_config(config_file), teacher_ckpt=str(teacher))
    assert cfg.model.teacher_ckpt == str(teacher)
    cfg = prepare_config(load_config(config_file), teacher_ckpt='https://host/teacher.pth')
    assert cfg.model.teacher_ckpt == 'https://host/teacher.pth'

    del cfg.model['teacher']
    with pytest.raises(UsageError, match=r'my_config\.py has no model\.teacher'):
        prepare_config(cfg, teacher_ckpt=str(teacher))


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
def test_mmpretrains_dataloaders_are_completed(config_file, scope):
    cfg = load_config(config_file, {'default_scope': scope})
    cfg.train_dataloader = dict(num_workers=2, pin_memory='as given')
    prepare_config(cfg)
    if scope == 'mmdet':
        assert cfg.train_dataloader == dict(num_workers=2, pin_memory='as given')
        assert cfg.test_dataloader == dict(batch_size=1)
    else:
        assert cfg.train_dataloader == dict(
            num_workers=2,
            pin_memory='as given',
            persistent_workers=True,
            collate_fn=dict(type='default_collate'),
        )
        # torch refuses persistent workers where there are none
        assert cfg.test_dataloader.persistent_workers is False


# prepare_test_config


def test_test_config_is_the_students_and_loads_nothing_by_itself(config_file):
    cfg = prepare_test_config(load_config(config_file, {'resume': True}), launcher='pytorch')
    assert cfg.model == dict(type='A', _scope_='mmengine')
    assert (cfg.load_from, cfg.resume, cfg.launcher) == (None, False, 'pytorch')


@pytest.mark.parametrize(
    'kind, expected',
    [
        (
            'mmdet.DetVisualizationHook',
            dict(draw=True, show=True, wait_time=5, test_out_dir='pictures'),
        ),
        (
            DetVisualizationHook,
            dict(draw=True, show=True, wait_time=5, test_out_dir='pictures'),
        ),
        (
            'VisualizationHook',
            dict(enable=True, interval=1, show=True, wait_time=5, out_dir='pictures'),
        ),
    ],
)
def test_visualization_of_both_packages(config_file, kind, expected):
    cfg = load_config(config_file)
    cfg.default_hooks = dict(visualization=dict(type=kind))
    cfg = prepare_test_config(cfg, show=True, show_dir='pictures', wait_time=5)
    assert cfg.default_hooks.visualization == dict(type=kind, **expected)


def test_test_config_errors(config_file):
    cfg = load_config(config_file)
    with pytest.raises(UsageError, match='--show and --show-dir need a hook'):
        prepare_test_config(cfg, show_dir='x')
    with pytest.raises(UsageError, match=r'--out a\.txt: a name ending in'):
        prepare_test_config(cfg, out='a.txt')
    cfg.pop('test_dataloader')
    with pytest.raises(UsageError, match='no test_dataloader'):
        prepare_test_config(cfg)


def test_a_test_leaves_the_config_of_the_training_as_it_is(config_file, tmp_path):
    """The Runner writes the config to the work folder, by default that of the training."""
    cfg = load_config(config_file)
    named = named_for_test(cfg)
    assert named.filename == str(tmp_path / 'my_config_test.py')
    assert cfg.filename == config_file and named.to_dict() == cfg.to_dict()
    assert copy.deepcopy(named).filename == named.filename  # as Runner.from_cfg does
    assert named_for_test(Config(dict(a=1))).filename is None
