"""Every config loads, its model builds, and it says what its name says."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student_config import student_config
from dpk_mm.models.teacher.checkpoint import inherit_weights
from tests.helpers.meta import parameters_on_meta
from tools.shapes import METAINFO

pytestmark = pytest.mark.usefixtures('quick_configs')

CONFIGS = Path(__file__).parents[1] / 'configs'
DETECTORS = ('faster_rcnn', 'retinanet')
PAIRS = ('r101_r18', 'r101_r50', 'r152_r50')
MINI = ('teacher', 'none', 'fgd', 'dpk')
SIDES = {'faster_rcnn': [334, 167, 84, 42, 21], 'retinanet': [167, 84, 42, 21, 11]}
# index, patch size, encoder width, decoder width, tokens at 1333x1333
LEVELS = {
    'faster_rcnn': {'P4': (2, 4, 512, 1024, 441), 'P5': (3, 2, 256, 512, 441)},
    'retinanet': {
        'P4': (1, 4, 512, 1024, 441),
        'P5': (2, 2, 256, 512, 441),
        'P6': (3, 1, 256, 256, 441),
        'P7': (4, 1, 256, 256, 121),
    },
}
DISTILLED = [
    (family, detector, pair)
    for family in ('dpk', 'fgd')
    for detector in DETECTORS
    for pair in PAIRS
]
FILES = sorted(
    [f'{family}/{detector}_{pair}.py' for family, detector, pair in DISTILLED]
    + [f'teachers/{detector}_r152_fpn_2x_coco.py' for detector in DETECTORS]
    + [
        f'baselines/{detector}_{depth}_fpn_2x_coco.py'
        for detector in DETECTORS
        for depth in ('r18', 'r50')
    ]
    + [f'mini/{detector}_{role}.py' for detector in DETECTORS for role in MINI]
)
FAMILIES = ('dpk', 'fgd', 'teachers', 'baselines', 'mini')
# keys that mmengine's Runner, mmdet's configs or mmengine's config reader know
KEYS = {
    'model',
    'comparison',
    'dataset_type',
    'data_root',
    'backend_args',
    'metainfo',
    'train_pipeline',
    'test_pipeline',
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'val_evaluator',
    'test_evaluator',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'param_scheduler',
    'optim_wrapper',
    'auto_scale_lr',
    'default_scope',
    'default_hooks',
    'env_cfg',
    'vis_backends',
    'visualizer',
    'log_processor',
    'log_level',
    'load_from',
    'resume',
    'randomness',
    'find_unused_parameters',
    'custom_imports',
}


def load(name):
    return Config.fromfile(CONFIGS / name)


def build(model):
    from mmrazor.registry import MODELS

    init_default_scope('mmdet')
    with parameters_on_meta():
        return MODELS.build(model)


def detection_files():
    # classification configs have a test of their own
    return sorted(
        path.relative_to(CONFIGS).as_posix()
        for family in FAMILIES
        for path in (CONFIGS / family).glob('*.py')
        if path.name.startswith(DETECTORS)
    )


def test_the_promised_files_are_there():
    assert detection_files() == FILES


@pytest.mark.parametrize('family', FAMILIES)
def test_every_config_is_in_its_familys_metafile_and_readme(family):
    import yaml

    metafile = yaml.safe_load((CONFIGS / family / 'metafile.yml').read_text())
    readme = (CONFIGS / family / 'README.md').read_text()
    listed = {model['Config'] for model in metafile['Models']}
    there = {f'configs/{name}' for name in FILES if name.startswith(f'{family}/')}
    assert there <= listed
    for config in listed:
        assert (CONFIGS.parent / config).is_file(), config
    if family != 'mini':  # named there by a pattern
        assert all(Path(config).name in readme for config in there)


@pytest.mark.parametrize('name', FILES)
def test_config_builds_and_holds_no_stray_keys(name):
    cfg = load(name)
    assert set(cfg) <= KEYS
    assert cfg.default_scope == 'mmdet'
    model = build(cfg.model)
    if not name.startswith(('dpk', 'fgd')) and not name.endswith(('_dpk.py', '_fgd.py')):
        assert not hasattr(model, 'architecture')
        return
    assert type(model).__name__ == 'DPKDistill'
    assert not any(key.startswith('teacher.') for key in model.state_dict())
    inherit_weights(model.student, model.teacher, model.inherit)  # refuses what does not fit
    assert model.inherit
    assert type(model.architecture) is type(model.teacher)
    assert type(model.architecture).__module__.startswith('mmdet.')


@pytest.mark.parametrize(('family', 'detector', 'pair'), DISTILLED)
def test_pair_is_what_the_name_says(family, detector, pair):
    cfg = load(f'{family}/{detector}_{pair}.py')
    teacher, student = (int(part[1:]) for part in pair.split('_'))
    assert cfg.model.teacher.backbone.depth == teacher
    assert cfg.model.architecture.backbone.depth == student
    assert cfg.model.architecture.backbone.init_cfg.checkpoint == f'torchvision://resnet{student}'
    assert cfg.model.teacher.backbone.init_cfg is None
    assert cfg.model.architecture.backbone is not cfg.model.teacher.backbone
    widths = [64, 128, 256, 512] if student == 18 else [256, 512, 1024, 2048]
    assert cfg.model.architecture.neck.in_channels == widths
    assert cfg.model.teacher.neck.in_channels == [256, 512, 1024, 2048]
    if teacher == 152:
        config = f'{detector}_r152_fpn_2x_coco'
        assert cfg.model.teacher_ckpt == f'work_dirs/{config}/epoch_24.pth'
        assert cfg.model.teacher_command == f'python tools/train.py configs/teachers/{config}.py'
        assert load(f'teachers/{config}.py').model.backbone.depth == 152
    else:
        assert f'/{detector}_r101_fpn_2x_coco/' in cfg.model.teacher_ckpt
        assert cfg.model.teacher_ckpt.endswith('.pth')
    assert cfg.optim_wrapper.clip_grad.max_norm == 35
    assert cfg.optim_wrapper.optimizer.lr == 0.01
    assert cfg.train_cfg.max_epochs == 24
    images = 4 if (detector, pair) == ('faster_rcnn', 'r101_r18') else 2
    assert cfg.train_dataloader.batch_size == images
    assert cfg.auto_scale_lr.base_batch_size == 8 * images
    assert not cfg.find_unused_parameters


@pytest.mark.parametrize(('family', 'detector', 'pair'), DISTILLED)
def test_all_whole_parts_that_fit_are_inherited(family, detector, pair):
    """Of a neck that does not fit, its output convolutions, those that do."""
    cfg = load(f'{family}/{detector}_{pair}.py')
    model = build(cfg.model)

    def fitting(own, other, prefix, within):
        for name, part in own.named_children():
            path, given = f'{prefix}{name}', getattr(other, name)
            sizes, others = (
                {k: v.shape for k, v in side.state_dict().items()} for side in (part, given)
            )
            if sizes and sizes == others:
                yield path
            elif path in within:
                yield from fitting(part, given, f'{path}.', within)

    parts = fitting(model.architecture, model.teacher, '', ('neck', 'neck.fpn_convs'))
    assert cfg.model.inherit == list(parts)


@pytest.mark.parametrize('detector', DETECTORS)
@pytest.mark.parametrize('pair', PAIRS)
def test_levels_of_dpk(detector, pair):
    loss = load(f'dpk/{detector}_{pair}.py').model.distiller.distill_losses
    assert list(loss) == ['loss_dpk']
    found = {}
    for level, cfg in loss.loss_dpk.transforms.items():
        assert (cfg.encoder_depth, cfg.decoder_depth, cfg.num_heads) == (4, 4, 8)
        grid = -(-SIDES[detector][cfg.index] // cfg.patch_size)
        assert tuple(cfg.position_grid) == (grid, grid)
        widths = (cfg.embed_dims, cfg.decoder_embed_dims)
        found[level] = (cfg.index, cfg.patch_size, *widths, grid**2)
    assert found == LEVELS[detector]
    criterion = loss.loss_dpk.criterion
    assert tuple(criterion.levels) == tuple(range(4 if detector == 'faster_rcnn' else 5))
    kind = 'two_stage' if detector == 'faster_rcnn' else 'one_stage'
    assert criterion.weights == f'dpk_{kind}_text'


@pytest.mark.parametrize('detector', DETECTORS)
def test_sides_of_the_levels_at_1333(detector):
    sides = [1333]
    while len(sides) < 8:  # each convolution or pooling of stride 2 rounds up
        sides.append(-(-sides[-1] // 2))
    first = 2 if detector == 'faster_rcnn' else 3
    assert SIDES[detector] == sides[first : first + 5]


@pytest.mark.parametrize('detector', DETECTORS)
def test_weights_of_fgd(detector):
    loss = load(f'fgd/{detector}_r101_r50.py').model.distiller.distill_losses
    assert list(loss) == ['loss_fgd']
    expected = {'faster_rcnn': 'fgd_two_stage', 'retinanet': 'fgd_one_stage_paper'}
    assert loss.loss_fgd.weights == expected[detector]
    assert tuple(loss.loss_fgd.levels) == tuple(range(4 if detector == 'faster_rcnn' else 5))


@pytest.mark.parametrize('detector', DETECTORS)
def test_hooks(detector):
    def types(name):
        cfg = load(name)
        assert 'custom_hooks' not in cfg  # a list, which a user's own would replace
        hooks = {key: hook.type for key, hook in cfg.default_hooks.items()}
        return {key: kind for key, kind in hooks.items() if kind.startswith('mmrazor.')}

    student = dict(
        student_checkpoint='mmrazor.StudentCheckpointHook',
        distill_alarm='mmrazor.DistillAlarmHook',
    )
    assert types(f'fgd/{detector}_r101_r50.py') == student
    dpk = dict(student, mask_ratio='mmrazor.CKAMaskRatioHook')
    assert types(f'dpk/{detector}_r101_r50.py') == dpk
    assert types(f'mini/{detector}_dpk.py') == dpk


@pytest.mark.parametrize('name', [f for f in FILES if load(f).model.type == 'DPKDistill'])
def test_losses_get_the_outputs_of_the_necks_and_the_ground_truth(name):
    cfg = load(name)
    assert cfg.model.distiller.records == dict(feats='neck')
    distiller = build(cfg.model).distiller
    for mapping in distiller.loss_forward_mappings.values():
        assert mapping == dict(
            student_feats=dict(recorder='feats', from_student=True),
            teacher_feats=dict(recorder='feats', from_student=False),
            data_samples=dict(recorder='data_samples', from_student=True, data_idx=1),
        )
    assert cfg.model.teacher_ckpt
    assert student_config(cfg).model.type in ('FasterRCNN', 'RetinaNet')


@pytest.mark.parametrize('detector', DETECTORS)
def test_mini_configs_are_one_experiment(detector):
    none, teacher, fgd, dpk = (
        load(f'mini/{detector}_{role}.py') for role in ('none', 'teacher', 'fgd', 'dpk')
    )
    for cfg in (none, teacher, fgd, dpk):
        assert cfg.metainfo.classes == METAINFO['classes']
        assert [tuple(colour) for colour in cfg.metainfo.palette] == METAINFO['palette']
        assert cfg.train_dataloader == none.train_dataloader
        assert cfg.optim_wrapper == none.optim_wrapper
        assert cfg.train_dataloader.dataset.type == 'CocoDataset'  # `indices` works on no wrapper
        assert cfg.param_scheduler[1].T_max == cfg.train_cfg.max_epochs
        assert cfg.randomness.seed == 0
    assert [cfg.train_cfg.max_epochs for cfg in (none, teacher, fgd, dpk)] == [6, 18, 6, 6]
    for cfg in (fgd, dpk):
        plain = {key: value for key, value in cfg.model.architecture.items() if key != '_scope_'}
        assert plain == {key: value for key, value in none.model.items() if key != '_scope_'}
        plain = {key: value for key, value in cfg.model.teacher.items() if key != '_scope_'}
        assert plain == {key: value for key, value in teacher.model.items() if key != '_scope_'}
        heads = ['bbox_head'] if detector == 'retinanet' else ['rpn_head', 'roi_head']
        assert cfg.model.inherit[-len(heads) :] == heads
        assert cfg.model.teacher_ckpt == f'work_dirs/{detector}_teacher/epoch_18.pth'
        assert cfg.model.teacher_command.endswith(f'configs/mini/{detector}_teacher.py')
    weights = dpk.model.distiller.distill_losses.loss_dpk.criterion.weights
    assert weights == fgd.model.distiller.distill_losses.loss_fgd.weights
    transforms = dpk.model.distiller.distill_losses.loss_dpk.transforms
    first = 2 if detector == 'faster_rcnn' else 3
    assert {name: level.index for name, level in transforms.items()} == {
        'P4': 4 - first,
        'P5': 5 - first,
    }
    for level in transforms.values():
        assert (level.patch_size, level.position_embedding) == (1, 'sinusoidal')


@pytest.mark.parametrize('family', ['dpk', 'dpk/cifar100', 'dpk/imagenet', 'fgd', 'mini'])
def test_a_leaf_is_a_pair_and_a_method(family):
    """Three to eight lines, comments and empty ones left out; the numbers of stages have names."""
    for path in (CONFIGS / family).glob('*.py'):
        lines = [line for line in path.read_text().splitlines() if line and line[0] != '#']
        cfg = Config.fromfile(path)
        if cfg.model.type != 'DPKDistill' or 'optim_wrapper = dict(' in lines:
            continue
        assert len(lines) <= 8, path
        assert 'embed_dims' not in path.read_text()


@pytest.mark.parametrize('name', ['dpk/faster_rcnn_r101_r50', 'dpk/cifar100/vgg13_vgg8'])
def test_custom_hooks_of_a_user_lose_nothing(tmp_path, name):
    own = tmp_path / 'own.py'
    own.write_text(
        f"_base_ = '{CONFIGS / name}.py'\n"
        "custom_hooks = [dict(type='EMAHook')]\n"
        "default_hooks = dict(mask_ratio=dict(_delete_=True, type='mmrazor.FixedMaskRatioHook'))\n"
    )
    cfg = Config.fromfile(own)
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook']
    assert cfg.default_hooks.mask_ratio == dict(type='mmrazor.FixedMaskRatioHook')
    assert cfg.default_hooks.student_checkpoint.type == 'mmrazor.StudentCheckpointHook'
    assert cfg.default_hooks.checkpoint.interval
