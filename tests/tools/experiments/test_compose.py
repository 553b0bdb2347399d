from pathlib import Path

import pytest
from mmengine.config import Config

from dpk_mm.errors import UsageError
from tools.experiments.compose import (
    EQUAL,
    PUBLISHED,
    Comparison,
    _merged,
    _plain_model,
    config_text,
    find_facts,
    read_pair,
)
from tools.experiments.data import prepare
from tools.experiments.methods import (
    CLASSIFICATION,
    DETECTION,
    Facts,
    find_methods,
    fitting_methods,
)

ROOT = Path(__file__).parents[3]
PAIR = 'mini_cifar100'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Options that point to a list of three images that nobody opens."""
    folder = tmp_path_factory.mktemp('data')
    (folder / 'student.txt').write_text('a/1.jpg 0\na/2.jpg 0\nb/1.jpg 1\n')
    loader = 'train_dataloader.dataset'
    return {f'{loader}.data_root': str(folder), f'{loader}.data_prefix.img_path': str(folder)}


@pytest.fixture(scope='module')
def facts(data):
    return find_facts(read_pair(PAIR, ROOT), data)


@pytest.fixture
def comparison(facts, tmp_path):
    def make(names, seeds=(0,), **kwargs):
        pair = read_pair(PAIR, ROOT)
        return Comparison(pair, facts, names, seeds, tmp_path / 'configs', ROOT, **kwargs)

    return make


@pytest.mark.parametrize(
    ('name', 'row', 'task'),
    [
        ('mini_cifar100', 'mini/cifar100', CLASSIFICATION),
        ('cifar100/resnet56_resnet20', 'cifar100/resnet56_resnet20', CLASSIFICATION),
        ('imagenet/resnet50_mobilenet_v1', 'imagenet/resnet50_mobilenetv1', CLASSIFICATION),
        ('imagenet/convnext_t_resnet18', 'imagenet/convnext-t_resnet18', CLASSIFICATION),
        ('mini_faster_rcnn', 'mini/faster_rcnn', DETECTION),
        ('coco_retinanet_r101_r50', 'coco/retinanet', DETECTION),
    ],
)
def test_a_pair_is_found_by_its_name(name, row, task):
    pair = read_pair(name, ROOT)
    assert (pair.pair, pair.task) == (row, task)


def test_pairs_that_are_not_there_or_no_pairs_are_named(tmp_path):
    with pytest.raises(UsageError, match='no pair mini_cifar10.*did you mean mini_cifar100'):
        read_pair('mini_cifar10', ROOT)
    with pytest.raises(UsageError, match='no model.architecture'):
        read_pair(str(ROOT / 'configs/mini/fashion_cnn_teacher.py'), ROOT)
    text = (
        "model = dict(architecture=dict(), teacher=dict())\ncomparison = dict(pari='mini/cifar100')"
    )
    (tmp_path / 'own.py').write_text(text)
    with pytest.raises(UsageError, match="comparison has 'pari'.*did you mean pair"):
        read_pair(str(tmp_path / 'own.py'), ROOT)
    (tmp_path / 'own.py').write_text('model = dict(architecture=dict(), teacher=dict())')
    with pytest.raises(UsageError, match='which channels and sizes'):
        read_pair(str(tmp_path / 'own.py'), ROOT)


def test_facts_are_those_of_the_networks(facts):
    assert (facts.num_images, facts.num_classes, facts.epochs) == (3, 20, 20)
    assert facts.embedding == (32, 96)
    assert facts.before == ((8, 24),)
    assert facts.stages == ((1, 2, 3), (1, 2, 3))
    assert facts.preact == (True, True)
    assert facts.teacher_bns == ('layer1.0.bn2', 'layer2.0.bn2', 'layer3.0.bn2')


@pytest.fixture
def no_images(monkeypatch):
    monkeypatch.setattr('tools.experiments.compose.DATASETS.build', lambda cfg: range(7))


@pytest.mark.parametrize(
    ('name', 'convs', 'scales', 'classes'),
    [('hituav256', 0, [2], 3), ('mini_faster_rcnn', 0, [4], 5), ('mini_retinanet', 2, None, 5)],
)
def test_facts_of_detectors(no_images, name, convs, scales, classes):
    found = find_facts(read_pair(name, ROOT), {})
    assert (found.head_convs, found.num_classes, found.num_images) == (convs, classes, 7)
    assert found.anchors.get('scales') == scales


@pytest.mark.parametrize(
    ('name', 'stages', 'before'),
    [
        ('mini_fashion_cnn', ((0, 1, 2, 3), (0, 1, 2, 3)), 2),
        ('imagenet/resnet34_resnet18', ((0, 1, 2, 3), (0, 1, 2, 3)), 2),
    ],
)
def test_facts_of_networks_of_mmpretrain(no_images, name, stages, before):
    """Its ``train()`` returns nothing, and so its ``eval()``."""
    found = find_facts(read_pair(name, ROOT), {})
    assert (found.stages, len(found.before)) == (stages, before)


def test_gids_weights_are_in_its_config(no_images, tmp_path):
    """A default that changes in the class would leave results of before as if they were of these settings."""
    pair = read_pair('mini_faster_rcnn', ROOT)
    made = Comparison(pair, find_facts(pair, {}), ['gid'], [0], tmp_path, ROOT)
    cfg = Config.fromfile(made.student_config('gid'), import_custom_modules=False)
    loss = cfg.model.distiller.distill_losses.loss_gid
    assert (loss.feature_weight, loss.relation_weight) == (0.0005, 40.0)


def test_an_import_that_is_one_name(no_images):
    pair = read_pair('mini_fashion_cnn', ROOT)
    pair.cfg.custom_imports = dict(imports='dpk_mm', allow_failed_imports=False)
    assert 'custom_imports' not in _plain_model(pair.cfg, 'teacher')
    pair.cfg.custom_imports = dict(imports='json', allow_failed_imports=False)
    assert _plain_model(pair.cfg, 'teacher').custom_imports.imports == ['json']


def test_a_schedule_of_iterations_ends_with_the_training(no_images, tmp_path):
    pair = read_pair('mini_fashion_cnn', ROOT)
    pair.cfg.param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False)]
    made = Comparison(pair, find_facts(pair, {}), ['kd'], [0], tmp_path, ROOT)
    cfg = Config.fromfile(made.student_config('kd'), import_custom_modules=False)
    assert cfg.param_scheduler[0].get('end') is None


def test_configs_of_detectors_build(no_images, tmp_path):
    from mmrazor.registry import MODELS

    for name in ('hituav256', 'mini_retinanet'):
        pair = read_pair(name, ROOT)
        found = find_facts(pair, {})
        names, _ = fitting_methods(find_methods(['all'], DETECTION), found, pair.comparison)
        made = Comparison(pair, found, names, [0], tmp_path / name, ROOT)
        assert ('crosskd' in names) == (name == 'mini_retinanet')
        for method in names:
            cfg = Config.fromfile(made.student_config(method))
            losses = MODELS.build(cfg.model).distiller.distill_losses
            if method == 'fgfi' and name == 'hituav256':
                assert losses['loss_fgfi'].anchors.scales.tolist() == [2]
        teacher = Config.fromfile(made.teachers(0)[0].config)
        assert teacher.model.backbone.base_channels == 32


def test_every_config_can_be_read_again_and_names_its_losses(comparison):
    made = comparison(find_methods(['all'], CLASSIFICATION))
    for name in made.names:
        cfg = Config.fromfile(made.student_config(name), import_custom_modules=False)
        assert set(cfg.model.distiller.distill_losses) == set(
            made.changes[name]['model']['distiller']['distill_losses']
        )
        assert 'comparison' not in cfg


def test_teacher_and_baseline_are_the_two_networks_by_themselves(comparison):
    made = comparison(['kd'])
    teacher = Config.fromfile(made.teachers(0)[0].config, import_custom_modules=False)
    baseline = Config.fromfile(made.baseline(0).config, import_custom_modules=False)
    assert teacher.model.backbone.arch['widths'] == (24, 24, 48, 96)
    assert teacher.train_dataloader.dataset.ann_file == 'teacher.txt'
    assert teacher.train_cfg.max_epochs == 10
    assert baseline.model.backbone.arch['widths'] == (8, 8, 16, 32)
    assert baseline.train_dataloader.dataset.ann_file == 'student.txt'
    for cfg in (teacher, baseline):
        assert 'custom_imports' not in cfg  # or results that were made before are of other settings
        assert cfg.model.type == 'ImageClassifier' and 'student_checkpoint' not in cfg.default_hooks


def test_a_student_needs_its_teacher_and_its_first_stage(comparison):
    made = comparison(['ab', 'ft', 'kd'], seeds=(3,))
    entries = {entry.name: entry for entry in made.first_stages(3)}
    assert list(entries) == ['ab-first-s3', 'ft-first-s3']
    student = made.student('ft', 3, PUBLISHED)
    assert student.needs == ('teacher-s3', 'ft-first-s3')
    assert list(student.checkpoints) == ['model.distiller.distill_losses.loss_ft.paraphraser_ckpt']
    assert made.student('kd', 3, PUBLISHED).needs == ('teacher-s3',)


def test_equal_shares_are_options_over_the_published_weights(comparison):
    made = comparison(['kd', 'dkd', 'tofd'])
    entry = made.student('kd', 0, EQUAL, made.equal_weights('kd', {'loss_kd': 0.5}))
    assert entry.options == {
        'model.distiller.distill_losses.loss_kd.loss_weight': 0.45,
        'model.architecture.head.loss.loss_weight': 1.0,
    }
    assert made.weights_of('kd', {**entry.options, 'train_cfg.max_epochs': 3}) == entry.options
    assert (entry.name, entry.setting) == ('kd-equal-s0', {'weight': EQUAL})
    options = made.equal_weights('dkd', {'loss_dkd': 3.0})
    assert options == {'model.distiller.distill_losses.loss_dkd.loss_weight': 3.0}
    options = made.equal_weights('tofd', {'loss_kd': 2.0, 'loss_tofd': 3.0})
    assert list(options.values()) == pytest.approx([2 / 9, 3.0], rel=1e-3)
    assert made.student('kd', 0, PUBLISHED).options == {}


def test_the_early_stopped_teacher_is_the_teacher_after_fewer_epochs(comparison):
    made = comparison(['eskd'])
    teacher, early = made.teachers(0)
    assert early.config == teacher.config
    assert early.options == {'train_cfg.max_epochs': 4}
    assert made.student('eskd', 0, PUBLISHED).teacher == early.name
    with pytest.raises(UsageError, match='--teacher-ckpt gives one that is trained'):
        comparison(['eskd'], teacher_ckpt='t.pth')


def test_assistants_are_a_chain_from_the_teacher_to_the_student(facts, tmp_path):
    pair = read_pair(PAIR, ROOT)
    widths = [(20, 20, 40, 80), (12, 12, 24, 48)]
    changes = [
        dict(
            backbone=dict(arch=dict(depth=8, widths=w, strides=(2, 2, 2))),
            head=dict(in_channels=w[-1]),
        )
        for w in widths
    ]
    comparison = dict(pair.comparison, assistants=changes)
    pair = type(pair)(pair.name, pair.path, pair.cfg, pair.pair, comparison)
    made = Comparison(pair, facts, ['takd'], [0], tmp_path, ROOT)
    teacher, first, second = made.teachers(0)
    assert (first.needs, second.needs) == ((teacher.name,), (first.name,))
    student = made.student('takd', 0, PUBLISHED)
    assert student.needs == (second.name,)
    found = [
        Config.fromfile(entry.config, import_custom_modules=False)
        for entry in (first, second, student)
    ]
    networks = [
        tuple(cfg.model[side].backbone.arch['widths'] for side in ('teacher', 'architecture'))
        for cfg in found
    ]
    assert networks == [
        ((24, 24, 48, 96), widths[0]),
        (widths[0], widths[1]),
        (widths[1], (8, 8, 16, 32)),
    ]
    for cfg in found:
        assert cfg.model.architecture.head.loss.loss_weight == 0.1
    # assistants are trained as the teacher is
    assert [cfg.train_dataloader.dataset.ann_file for cfg in found] == [
        'teacher.txt',
        'teacher.txt',
        'student.txt',
    ]


def test_a_chain_without_assistants_is_refused(facts, tmp_path):
    pair = read_pair(PAIR, ROOT)
    without = {key: value for key, value in pair.comparison.items() if key != 'assistants'}
    pair = type(pair)(pair.name, pair.path, pair.cfg, pair.pair, without)
    with pytest.raises(UsageError, match='takd needs assistants'):
        Comparison(pair, facts, ['takd'], [0], tmp_path, ROOT)


def test_a_given_teacher_is_not_trained(comparison):
    made = comparison(['kd'], teacher_ckpt='some/teacher.pth')
    assert made.teachers(0) == []
    student = made.student('kd', 0, PUBLISHED)
    # in the config, which can be trained as it is, and not in what the results show
    assert student.needs == () and student.options == {}
    config = Config.fromfile(ROOT / student.config, import_custom_modules=False)
    assert config.model.teacher_ckpt == 'some/teacher.pth'


def test_one_teacher_for_all_seeds(comparison):
    made = comparison(['kd', 'takd', 'eskd', 'ft'], one_teacher=True)
    names = ['teacher-s0', 'early-s0', 'assistant1-s0']
    assert [entry.name for entry in made.teachers(2)] == names
    assert [entry.seed for entry in made.teachers(2)] == [0, 0, 0]
    needs = {name: made.student(name, 2, PUBLISHED).needs for name in made.names}
    assert needs == {
        'kd': ('teacher-s0',),
        'takd': ('assistant1-s0',),
        'eskd': ('early-s0',),
        'ft': ('teacher-s0', 'ft-first-s2'),  # what is the student's own keeps its seed
    }
    assert made.of(['kd'], [1]).student('kd', 1, PUBLISHED).needs == ('teacher-s0',)


def test_a_teacher_that_changed_under_the_same_name_is_another_one(comparison, tmp_path):
    file = tmp_path / 'teacher.pth'
    texts = []
    for content in ('a', 'longer'):
        file.write_text(content)
        made = comparison(['kd'], teacher_ckpt=str(file))
        texts.append([Path(made.student_config('kd')).read_text(), made.baseline(0)])
    assert texts[0][0] != texts[1][0] and texts[0][1] == texts[1][1]


@pytest.mark.parametrize('name', ['hituav256', 'mini_faster_rcnn', 'mini_retinanet'])
def test_students_begin_as_the_student_alone_does(no_images, tmp_path, name):
    pair = read_pair(name, ROOT)
    assert pair.cfg.model.inherit
    made = Comparison(pair, find_facts(pair, {}), ['fgd'], [0], tmp_path, ROOT)
    student = Config.fromfile(made.student_config('fgd'), import_custom_modules=False)
    baseline = Config.fromfile(made.baseline(0).config, import_custom_modules=False)
    assert student.model.inherit is None
    assert student.model.architecture == baseline.model
    same = ('train_cfg', 'param_scheduler', 'optim_wrapper', 'train_dataloader')
    assert all(student[key] == baseline[key] for key in same)
    assert not any('mmrazor.' in hook['type'] for hook in baseline.default_hooks.values())


def test_students_from_a_checkpoint_have_no_equal_baseline(facts, tmp_path):
    pair = read_pair(PAIR, ROOT)
    pair.cfg.model.student_ckpt = 's.pth'
    with pytest.raises(UsageError, match='the student alone from random weights'):
        Comparison(pair, facts, ['kd'], [0], tmp_path, ROOT)


@pytest.mark.parametrize(
    'name', ['mini_cifar100', 'hituav256', 'mini_faster_rcnn', 'mini_retinanet']
)
def test_schedules_of_teachers_end_with_their_training(name):
    pair = read_pair(name, ROOT)
    found = _merged(_plain_model(pair.cfg, 'teacher'), pair.comparison['teacher'])
    scheduler = found.param_scheduler
    last = scheduler[-1] if isinstance(scheduler, list) else scheduler
    assert last['end'] == last['T_max'] == found.train_cfg.max_epochs
    if 'hituav' not in name and pair.task == DETECTION:
        own = Config.fromfile(ROOT / f'configs/mini/{name.removeprefix("mini_")}_teacher.py')
        assert own.train_cfg.max_epochs == found.train_cfg.max_epochs
        assert own.param_scheduler == scheduler


@pytest.mark.parametrize('name', ['mini_faster_rcnn', 'mini_retinanet'])
def test_the_held_out_shapes_are_not_those_of_the_validation(name, tmp_path, monkeypatch):
    monkeypatch.setattr('tools.experiments.data.generate_shapes', lambda *args, **kwargs: None)
    pair = read_pair(name, ROOT)
    cfg = pair.cfg.copy()
    cfg.merge_from_dict(prepare(pair.comparison['data'], None, tmp_path))
    roots = {cfg[f'{part}_dataloader'].dataset.data_root for part in ('val', 'test')}
    files = {cfg[f'{part}_evaluator'].ann_file for part in ('val', 'test')}
    assert len(roots) == len(files) == 2


def test_the_text_of_a_config_holds_any_value():
    cfg = Config(dict(a=dict(b=(1, 2), c='it\'s "x"', d=None, e=[1e-7, True]), comparison=1))
    found = Config.fromstring(config_text('n', 'p', cfg), '.py')
    assert found.to_dict() == dict(a=cfg.a.to_dict())


@pytest.mark.parametrize('name', ['imagenet/swin_s_swin_t', 'imagenet/cait_s24_deit_ti'])
def test_schedules_end_where_they_did_before_a_training_is_cut(name, tmp_path):
    pair = read_pair(name, ROOT)
    assert any(s.get('end') is None for s in pair.cfg.param_scheduler)
    cfg = Config(dict(pair.cfg.to_dict()))
    facts = Facts(pair.pair, CLASSIFICATION, 7, 1000, 100, {})
    made = Comparison(pair, facts, [], [0], tmp_path, ROOT)
    for entry in (made.baseline(0), *made.teachers(0)):
        written = Config.fromfile(entry.config, import_custom_modules=False)
        for before, after in zip(cfg.param_scheduler, written.param_scheduler, strict=True):
            assert after.end == before.get('end', cfg.train_cfg.max_epochs)


def test_the_cross_entropy_of_a_pair_of_ones_own_is_weighed_as_the_others(facts, tmp_path):
    pair = read_pair(PAIR, ROOT)
    pair.cfg.model.architecture.head.loss.loss_weight = 0.5
    made = Comparison(pair, facts, ['dkd'], [0], tmp_path, ROOT)
    assert made.equal_weights('dkd', {'loss_dkd': 3.0}) == {
        'model.distiller.distill_losses.loss_dkd.loss_weight': 3.0,
        'model.architecture.head.loss.loss_weight': 1.0,
    }
