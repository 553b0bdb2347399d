"""The methods of compare.py: how each changes the config of a pair, with its published settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpk_mm.engine.optimizers.joint_optim_wrapper import COMMON
from dpk_mm.errors import UsageError, did_you_mean
from dpk_mm.models import methods
from dpk_mm.models.methods.losses import Losses

CLASSIFICATION = 'classification'
DETECTION = 'detection'
Changes = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a method has to know of a pair.

    Attributes:
        pair: Key of ``PAIRS``.
        task: ``CLASSIFICATION`` or ``DETECTION``.
        num_images: Images of the training set.
        num_classes: Classes of the labels.
        epochs: Passes over the training data.
        embedding: (student's, teacher's) channels of what the classifiers read.
        stages: ``out_indices`` of (student, teacher) with which the backbones give all stages but the stem; None where
            they cannot be asked for.
        before: (student's, teacher's) channels of these stages before those of the pair.
        preact: Whether (student, teacher) can give stages before their ReLU.
        teacher_bns: Names of the last batch normalisations of the teacher's stages; None if they are not known.
        optimizer: ``optim_wrapper`` of the pair.
        head_convs: Convolutions of a dense head before its last layer; 0 where there is none.
        anchors: Config of the generator of a detector's anchors; None for that of the row of ``PAIRS``.
    """

    pair: str
    task: str
    num_images: int
    num_classes: int
    epochs: int
    embedding: tuple[int, int] = (0, 0)
    stages: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    before: tuple[tuple[int, int], ...] = ()
    preact: tuple[bool, bool] = (False, False)
    teacher_bns: tuple[str, ...] | None = None
    optimizer: Mapping[str, Any] | None = None
    head_convs: int = 0
    anchors: Mapping[str, Any] | None = None

    @property
    def imagenet(self) -> bool:
        """Whether the settings published for ImageNet are meant, else those for CIFAR-100."""
        return self.pair.startswith('imagenet/')

    def passes(self, published: int, of: int) -> int:
        """The same share of the training as so many published passes of all, at least one pass."""
        return max(1, round(published * self.epochs / of))


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        title: As tables call it.
        task: What it acts in.
        changes: Of the pair's config.
        first_stage: Changes for a training before it, whose checkpoint it starts from; None without one.
        first_stage_key: Option that takes this checkpoint.
        teacher: ``'teacher'``, ``'early'`` (stopped early) or ``'assistant'`` (the last of a chain).
        shared_weight: Whether there is a loss whose weight can be set by its share of the gradient.
    """

    title: str
    task: str
    changes: Callable[[Facts], Changes]
    first_stage: Callable[[Facts], Changes] | None = None
    first_stage_key: str = ''
    teacher: str = 'teacher'
    shared_weight: bool = True


def find_methods(names: Iterable[str], task: str) -> list[str]:
    """Checks names of methods; ``all`` stands for all of the task.

    Raises:
        UsageError: If one is unknown, or of another task; the sentence names the nearest one.
    """
    known = [name for name, method in METHODS.items() if method.task == task]
    found: list[str] = []
    for name in names:
        if name == 'all':
            found += known
        elif name not in known:
            of = f' acts in {METHODS[name].task}, not in' if name in METHODS else ' is no method of'
            raise UsageError(
                f'--methods: {name}{of} {task}, whose methods are {", ".join(known)}'
                f'{did_you_mean(name, known) or "."}'
            )
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def fitting_methods(
    names: Iterable[str],
    facts: Facts,
    comparison: Mapping[str, Any],
    teacher_ckpt: str | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Those of the methods that can act on a pair, and why the others cannot.

    Args:
        names: Of methods of the pair's task.
        facts: Of the pair.
        comparison: What the pair's file says of the comparison.
        teacher_ckpt: A teacher that is trained already.
    """
    fitting, left_out = [], {}
    for name in names:
        method = METHODS[name]
        try:
            method.changes(facts)
            if method.first_stage is not None:
                method.first_stage(facts)
            if method.teacher == 'assistant' and not comparison.get('assistants'):
                raise UsageError('the pair names no assistants.')
            if method.teacher == 'early' and teacher_ckpt is not None:
                raise UsageError('--teacher-ckpt gives a teacher that is trained.')
        except UsageError as error:
            left_out[name] = str(error)
        else:
            fitting.append(name)
    return fitting, left_out


def cross_entropy_weight(changes: Mapping[str, Any]) -> float:
    """Factor of the student's own cross entropy; 1 where a method leaves it."""
    node: Any = changes
    for key in ('model', 'architecture', 'head', 'loss'):
        node = node.get(key) or {}
    return float(node.get('loss_weight', 1.0))


def _losses(losses: Losses, cross_entropy: float = 1.0, **distiller: Any) -> Changes:
    model: Changes = dict(distiller=dict(distill_losses=losses, **distiller))
    if cross_entropy != 1.0:
        model['architecture'] = dict(head=dict(loss=dict(loss_weight=cross_entropy)))
    return dict(model=model)


def _kd(facts: Facts) -> Changes:
    if facts.imagenet:
        return _losses(methods.kd(tau=1.0, loss_weight=0.5), 0.5)
    return _losses(methods.kd(tau=4.0, loss_weight=0.9), 0.1)


def _kd_standardized(facts: Facts) -> Changes:
    return _losses(methods.kd_standardized(), 0.1)


def _dkd(facts: Facts) -> Changes:
    if facts.imagenet:
        warmup = facts.passes(1, 100)
        return _losses(methods.dkd(facts.pair, tau=1.0, beta=0.5, warmup=warmup))
    return _losses(methods.dkd(facts.pair, warmup=facts.passes(20, 240)))


def _nkd(facts: Facts) -> Changes:
    return _losses(methods.nkd() if facts.imagenet else methods.nkd(tau=3.0, gamma=3.5))


def _dist(facts: Facts) -> Changes:
    return _losses(methods.dist(tau=1.0 if facts.imagenet else 4.0))


def _hard(facts: Facts) -> Changes:
    return _losses(methods.hard(), 0.5)


def _embedding(losses: Callable[[Facts], Losses]) -> Callable[[Facts], Changes]:
    """Methods on what the classifier reads."""
    return lambda facts: _losses(losses(facts), records=dict(embedding='neck'))


def _last(losses: Callable[..., Losses]) -> Callable[[Facts], Changes]:
    """Methods on a stage of the pair."""
    return lambda facts: _losses(losses(facts.pair))


def _all_stages(
    losses: Callable[[Facts], Losses], preact: Sequence[bool] = (False, False)
) -> Callable[[Facts], Changes]:
    """Methods on all stages but the stem, before the ReLU where it is asked for."""

    def changes(facts: Facts) -> Changes:
        found = _losses(losses(facts))
        for place, side in enumerate(('architecture', 'teacher')):
            backbone: Changes = {}
            if facts.stages is not None:
                backbone['out_indices'] = facts.stages[place]
            if preact[place]:
                if not facts.preact[place]:
                    raise UsageError(
                        f'{next(iter(found["model"]["distiller"]["distill_losses"]))} compares features before the '
                        f'ReLU, which the {"student" if not place else "teacher"} of this pair cannot give: only the '
                        'CIFAR networks of dpk_mm have preact; leave the method out.'
                    )
                backbone['preact'] = True
            if backbone:
                found['model'][side] = dict(backbone=backbone)
        return found

    return changes


def _tofd(facts: Facts) -> Losses:
    tofd = methods.tofd(facts.pair, num_classes=facts.num_classes, before=facts.before)
    # without the tau^2 of KD
    return methods.kd(tau=3.0, loss_weight=1 / 9) | tofd


def _ofd(facts: Facts) -> Losses:
    weight = 1e-4 if facts.imagenet else 1e-3
    return methods.ofd(facts.pair, facts.teacher_bns, before=facts.before, loss_weight=weight)


#: Of ReviewKD on CIFAR-100 by pair, as in its authors' scripts; 5 for others.
_REVIEWKD = {
    'cifar100/resnet56_resnet20': 0.6,
    'cifar100/resnet110_resnet32': 1.0,
    'cifar100/resnet32x4_shufflenetv2': 8.0,
    'mini/cifar100': 0.6,  # that of the narrow ResNet
}


def _reviewkd(facts: Facts) -> Losses:
    weight = _REVIEWKD.get(facts.pair, 1.0 if facts.imagenet else 5.0)
    warmup = facts.passes(1, 100) if facts.imagenet else facts.passes(20, 240)
    return methods.reviewkd(facts.pair, before=facts.before, warmup=warmup, loss_weight=weight)


def _ickd(facts: Facts) -> Changes:
    if facts.imagenet:
        own = methods.ickd(facts.pair, mode='imagenet', loss_weight=500.0)
        return _losses(methods.kd(tau=1.0, loss_weight=0.5) | own, 0.5)
    return _losses(methods.ickd(facts.pair))


def _mgd_channels(facts: Facts) -> Changes:
    weight = 7e-5 if facts.imagenet else 1.2e-3
    return _losses(methods.mgd_channels(facts.pair, loss_weight=weight))


def _crd(facts: Facts) -> Changes:
    return _losses(methods.crd(facts.pair, num_images=facts.num_images, channels=facts.embedding))


def _first_stage_of_ab(facts: Facts) -> Changes:
    changes = _all_stages(lambda f: methods.ab(f.pair, before=f.before), (True, True))(facts)
    changes['model']['calculate_student_loss'] = False
    return changes | dict(
        train_cfg=dict(max_epochs=facts.passes(30, 240)),
        find_unused_parameters=True,  # the classifier gets no gradient
    )


def _first_stage_of_ft(facts: Facts) -> Changes:
    return _last(methods.ft)(facts) | dict(train_cfg=dict(max_epochs=facts.passes(30, 240)))


def _dpk(facts: Facts) -> Changes:
    tau = 1.0 if facts.imagenet else 4.0
    changes = _losses(methods.kd(tau=tau) | methods.dpk(facts.pair))
    hook = dict(type='mmrazor.CKAMaskRatioHook', samples='images')
    return changes | dict(default_hooks=dict(mask_ratio=hook)) | _adamw_for_modules(facts)


def _adamw_for_modules(facts: Facts) -> Changes:
    """The transformation modules are transformers and learn with AdamW, as in the authors' code."""
    wrapper = dict(facts.optimizer or {})
    if wrapper.get('constructor') or wrapper.get('optimizer', {}).get('type') == 'AdamW':
        return {}
    student = {key: wrapper[key] for key in ('optimizer', 'paramwise_cfg') if key in wrapper}
    # precision, accumulation and clipping are those of the one backward pass
    shared = {key: wrapper[key] for key in COMMON if key in wrapper}
    return dict(
        optim_wrapper=dict(
            _delete_=True,
            constructor='mmrazor.DPKOptimWrapperConstructor',
            architecture=student,
            distiller=dict(
                optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
                paramwise_cfg=dict(flat_decay_mult=0.0),
            ),
            **shared,
        )
    )


def _at(facts: Facts) -> Losses:
    return methods.at(facts.pair, before=facts.before)


def _afd(facts: Facts) -> Losses:
    return methods.kd(tau=4.0, loss_weight=0.9) | methods.afd(facts.pair, before=facts.before)


def _vid(facts: Facts) -> Losses:
    return methods.vid(facts.pair, before=facts.before)


def _fgd_weights(facts: Facts) -> str:
    """FGD's published weights by kind of detector, for small pairs, too: all methods have those of COCO."""
    return 'fgd_two_stage' if facts.pair.endswith('/faster_rcnn') else 'fgd_one_stage_paper'


def _dpk_fgd(facts: Facts) -> Changes:
    # DPK's text has other ones than FGD's
    two = facts.pair.endswith('/faster_rcnn')
    changes = _losses(
        methods.dpk_fgd(facts.pair, 'dpk_two_stage_text' if two else 'dpk_one_stage_text')
    )
    hook = dict(type='mmrazor.CKAMaskRatioHook', samples='positions')
    return changes | dict(default_hooks=dict(mask_ratio=hook))


def _fgfi(facts: Facts) -> Changes:
    anchors = None if facts.anchors is None else dict(facts.anchors)
    return _losses(methods.fgfi(facts.pair, anchors=anchors))


def _crosskd(facts: Facts) -> Changes:
    # before the last convolution, as 3 of 4 is
    return _losses(methods.crosskd(facts.pair, split=max(0, facts.head_convs - 1)))


def _detector(title: str, changes: Callable[[Facts], Changes]) -> Method:
    return Method(title, DETECTION, changes)


def _classifier(title: str, changes: Callable[[Facts], Changes], **kwargs: Any) -> Method:
    return Method(title, CLASSIFICATION, changes, **kwargs)


METHODS: dict[str, Method] = {
    'kd': _classifier('KD', _kd),
    'kd_standardized': _classifier('KD, standardised', _kd_standardized),
    'fitnet': _classifier('FitNets', _last(methods.fitnet)),
    'ft': _classifier(
        'FT',
        _last(methods.ft),
        first_stage=_first_stage_of_ft,
        first_stage_key='model.distiller.distill_losses.loss_ft.paraphraser_ckpt',
    ),
    'ab': _classifier(
        'AB',
        lambda facts: _losses({}),
        first_stage=_first_stage_of_ab,
        first_stage_key='model.student_ckpt',
        shared_weight=False,
    ),
    'at': _classifier('AT', _all_stages(_at)),
    'pkt': _classifier('PKT', _embedding(lambda facts: methods.pkt())),
    'sp': _classifier('SP', lambda facts: _losses(methods.sp())),
    'afd': _classifier('SAD (AFD)', _all_stages(_afd)),
    'cc': _classifier('CC', _embedding(lambda facts: methods.cc(*facts.embedding))),
    'rkd': _classifier('RKD', _embedding(lambda facts: methods.rkd())),
    'vid': _classifier('VID', _all_stages(_vid)),
    'crd': _classifier('CRD', _crd),
    'ofd': _classifier('OFD', _all_stages(_ofd, (True, True))),
    'reviewkd': _classifier('ReviewKD', _all_stages(_reviewkd, (False, True))),
    'dkd': _classifier('DKD', _dkd),
    'ickd': _classifier('ICKD-C', _ickd),
    'mgd_channels': _classifier('MGD', _mgd_channels),
    'tofd': _classifier('TOFD', _all_stages(_tofd)),
    'dist': _classifier('DIST', _dist),
    'nkd': _classifier('NKD', _nkd),
    'hard': _classifier('Hard', _hard),
    'takd': _classifier('TAKD', _kd, teacher='assistant'),
    'eskd': _classifier('ESKD', _kd, teacher='early'),
    'dpk': _classifier('DPK', _dpk),
    'fgd': _detector('FGD', lambda facts: _losses(methods.fgd(facts.pair, _fgd_weights(facts)))),
    'dpk_fgd': _detector('DPK + FGD', _dpk_fgd),
    'pkd': _detector('PKD', _last(methods.pkd)),
    'cwd': _detector('CWD', _last(methods.cwd)),
    'mgd': _detector('MGD', _last(methods.mgd)),
    'fgfi': _detector('FGFI', _fgfi),
    'gid': _detector('GID', _last(methods.gid)),
    'agnl': _detector('AGNL', _last(methods.agnl)),
    'crosskd': _detector('CrossKD', _crosskd),
}
