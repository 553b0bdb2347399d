import pytest
from mmdet.datasets.transforms import PackDetInputs
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student_config import deployed, student_config
from dpk_mm.engine.runner import prepare
from dpk_mm.engine.runner.prepare import prepare_config, prepare_test_config
from dpk_mm.engine.runner.tta import enable_tta
from dpk_mm.errors import UsageError


def config(scope='mmdet', pack='PackDetInputs', **kwargs):
    pipeline = [dict(type='LoadImageFromFile'), dict(type=pack, meta_keys=('img_id', 'mine'))]
    inner = dict(type='Data', pipeline=pipeline)
    return Config(
        dict(
            default_scope=scope,
            model=dict(type='Student'),
            test_cfg=dict(type='TestLoop'),
            test_dataloader=dict(
                dataset=dict(type='Concat', datasets=[inner, dict(type='Repeat', dataset=inner)])
            ),
            **kwargs,
        )
    )


def pipelines(cfg):
    first, second = cfg.test_dataloader.dataset.datasets
    return first.pipeline, second.dataset.pipeline


@pytest.mark.parametrize('pack', ['PackDetInputs', PackDetInputs])
def test_what_mmdet_does_by_default(pack):
    cfg = prepare_test_config(config(pack=pack), tta=True)
    init_default_scope('mmdet')
    assert MODELS.get(cfg.model.type).__name__ == 'DetTTAModel'
    assert cfg.model.module == dict(type='Student')
    assert cfg.model.tta_cfg == dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    for pipeline in pipelines(cfg):
        assert pipeline[0] == dict(type='LoadImageFromFile') and len(pipeline) == 2
        flips, (pack,) = pipeline[1].transforms
        assert [flip.prob for flip in flips] == [1.0, 0.0]
        assert pack.meta_keys[:2] == ('img_id', 'mine')  # and what turns boxes back
        assert {'flip', 'flip_direction', 'ori_shape', 'scale_factor'} <= set(pack.meta_keys)


def test_what_mmpretrain_does_by_default():
    cfg = prepare_test_config(config('mmpretrain', 'PackInputs'), tta=True)
    init_default_scope('mmpretrain')
    assert MODELS.get(cfg.model.type).__name__ == 'AverageClsScoreTTA'
    assert pipelines(cfg)[0][1].transforms[1] == [
        dict(type='PackInputs', meta_keys=('img_id', 'mine'))
    ]


def test_the_config_says_how():
    cfg = config(tta_model=dict(type='Mine', a=1), tta_pipeline=[dict(type='TestTimeAug')])
    cfg = prepare_test_config(cfg, tta=True)
    assert cfg.model == dict(type='Mine', a=1, module=dict(type='Student'))
    assert pipelines(cfg) == ([dict(type='TestTimeAug')],) * 2


def test_the_models_own_preprocessor_goes_before_that_at_the_top():
    cfg = config()
    cfg.data_preprocessor = dict(mean=[1.0])
    cfg.model.data_preprocessor = dict(type='DetDataPreprocessor', mean=[2.0])
    enable_tta(cfg)
    assert cfg.data_preprocessor == cfg.model.module.data_preprocessor
    cfg = config()
    cfg.data_preprocessor = dict(mean=[1.0])
    enable_tta(cfg)
    assert cfg.data_preprocessor == dict(mean=[1.0])


def test_what_cannot_be_extended():
    with pytest.raises(UsageError, match="--tta: with default_scope = 'mine'"):
        enable_tta(config('mine'))
    with pytest.raises(UsageError, match='does not end in a transform that packs'):
        enable_tta(config(pack='Resize'))


def test_a_distillation_inside_becomes_its_student():
    inner = dict(type='DPKDistill', architecture=dict(type='A', _scope_='mmdet'), teacher=dict())
    cfg = config()
    cfg.model = dict(type='DetTTAModel', tta_cfg=dict(a=1), module=inner)
    assert student_config(cfg).model == dict(
        type='DetTTAModel', tta_cfg=dict(a=1), module=dict(type='A', _scope_='mmdet')
    )


def test_the_model_that_is_merged_is_the_one_loaded():
    from mmengine.model import BaseModel
    from mmpretrain.models.tta import AverageClsScoreTTA

    class Student(BaseModel):
        def forward(self, inputs, mode='tensor'):
            return inputs

    student = Student()
    assert deployed(AverageClsScoreTTA(student)) is student and deployed(student) is student


# the other options of the two packages' tools


@pytest.mark.parametrize(
    'out, item, message',
    [
        (None, 'pred', '--out-item pred was given without --out'),
        ('a.json', 'pred', r'for --out-item pred a name ending in \.pkl'),
        ('a.txt', 'metrics', r'for --out-item metrics a name ending in \.pkl, \.pickle, \.json'),
    ],
)
def test_out_item(out, item, message):
    with pytest.raises(UsageError, match=message):
        prepare_test_config(config(), out=out, out_item=item)
    for good in ('a.pkl', 'a.json', 'a.yaml'):
        prepare_test_config(config(), out=good, out_item='metrics')


def test_loaders_amp_and_interval(monkeypatch):
    monkeypatch.setattr(prepare, 'get_device', lambda: 'cpu')
    with pytest.raises(UsageError, match='--amp needs a GPU'):
        prepare_test_config(config(), amp=True)
    monkeypatch.setattr(prepare, 'get_device', lambda: 'cuda')
    cfg = config('mmpretrain', default_hooks=dict(visualization=dict(type='VisualizationHook')))
    cfg = prepare_test_config(cfg, show_dir='a', interval=7, amp=True, no_pin_memory=True)
    assert cfg.default_hooks.visualization.interval == 7
    assert cfg.test_cfg.fp16 is True and cfg.test_dataloader.pin_memory is False

    cfg = config(default_hooks=dict(visualization=dict(type='DetVisualizationHook')))
    with pytest.raises(UsageError, match='--interval 7: DetVisualizationHook draws every image'):
        prepare_test_config(cfg, show_dir='a', interval=7)


def test_training_without_validation():
    loaders = {f'{name}_dataloader': dict(persistent_workers=True) for name in ('train', 'val')}
    cfg = Config(dict(val_cfg=dict(), val_evaluator=dict(), default_hooks=dict(), **loaders))
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    prepare_config(cfg, no_validate=True, no_persistent_workers=True, no_pin_memory=True)
    assert cfg.val_cfg is None and cfg.val_dataloader is None and cfg.val_evaluator is None
    assert cfg.train_dataloader == dict(persistent_workers=False, pin_memory=False)

    cfg.default_hooks.checkpoint.save_best = 'auto'
    with pytest.raises(UsageError, match='save_best needs the metrics of a validation'):
        prepare_config(cfg, no_validate=True)


@pytest.mark.parametrize('key, value', [('student_ckpt', 's.pth'), ('inherit', ['neck'])])
def test_two_settings_for_the_first_weights(key, value):
    cfg = Config(dict(model={'type': 'DPKDistill', key: value}, load_from='a.pth'))
    with pytest.raises(UsageError, match=f'load_from = a.pth would replace .* model.{key}'):
        prepare_config(cfg)
    cfg.resume = True  # then the weights of the run itself are loaded
    prepare_config(cfg)
