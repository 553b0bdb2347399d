"""The algorithm: a student that learns from a teacher which leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from mmengine.dist import get_world_size, is_distributed
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn

from dpk_mm.checkpoint.distilled import prepare_loading, report_loading, strip_student_prefix
from dpk_mm.errors import UsageError
from dpk_mm.models.teacher.checkpoint import (
    inherit_weights,
    load_initial_student,
    load_teacher,
    pretrained_file,
)
from dpk_mm.models.teacher.forward import TeacherForward, is_classifier
from dpk_mm.models.teacher.input_size import check_input_size, expected_size, network_of
from dpk_mm.models.teacher.normalisation import TeacherInput, give_preprocessor
from dpk_mm.models.teacher.resizing import TeacherResizing
from dpk_mm.models.teacher.speed import check_precision, compile_teacher, in_precision

from ..distillers.class_counts import check_class_counts
from ..recorders import attach_again
from ..student_preprocessor import student_preprocessor
from .after_stop import with_zero_gradient
from .finite import NonFiniteGuard
from .student_attributes import StudentAttributes


@MODELS.register_module()
class DPKDistill(StudentAttributes, SingleTeacherDistill):
    """Distils a teacher into ``architecture``, the student.

    What differs from mmrazor's ``SingleTeacherDistill``:

    - The teacher is no submodule: it is in no state dict, no optimizer and no checkpoint, and
      DistributedDataParallel does not see it. It follows the model to its device. A copy of the model, such as
      ``EMAHook`` makes, shares it, and leaves it where it is until it runs.
    - It is in eval mode whatever happens, dropout and drop-path included, and sees its own normalisation; the
      student's if it has no ``data_preprocessor``.
    - Its checkpoint is loaded strictly, and not before ``init_weights()``, which the runner calls when training starts:
      testing and exporting need no teacher file.
    - Of a detector only ``extract_feat`` is run, of a classifier the logits, and more only where a recorder or a
      delivery looks at more.
    - What upstream code expects on a plain model (``model.bbox_head``) is found on the student, see
      :class:`~dpk_mm.models.algorithms.student_attributes.StudentAttributes`.
    - Building the teacher and the distiller uses no random number of the student: from one seed it starts
      with the weights that it would have alone.

    Args:
        architecture: The student, a model or its config.
        teacher: The teacher, likewise.
        distiller: A ``DPKDistiller`` or another mmrazor distiller.
        teacher_ckpt: File, URL or model-zoo scheme. None takes the file that ``pretrained`` or ``init_cfg`` of the
            teacher's config names; without one the teacher is untrained, and the log says so.
        teacher_command: The command that makes ``teacher_ckpt``; shown where the file is missing.
        student_ckpt: What the student starts from (a warm start), such as 'torchvision://resnet18'; the
            whole model has to fit. It is loaded after ``init_weights()`` of the student and before ``inherit``.
        inherit: Parts of the student that start from the teacher's weights, such as
            ``['neck', 'rpn_head', 'roi_head']`` (FGD's inheriting strategy). It is done after ``init_weights()``
            of the student, which would undo it.
        teacher_forward: How much of the teacher is run at least: 'features' (``extract_feat``), 'logits'
            (``forward(mode='tensor')``), 'loss', or 'auto': features where the model has no single ``head``
            (detectors), logits else (classifiers). More is run where a recorder or a delivery would get nothing
            else, see :class:`~dpk_mm.models.teacher.forward.TeacherForward`.
        teacher_input_size: (height, width) to which the images are resized for a teacher that was made for another
            resolution, see :class:`~dpk_mm.models.teacher.resizing.TeacherResizing`; where its head is run, it gets
            copies of the data samples with boxes and masks of that size. None: it sees the student's.
        teacher_precision: None, that of the student; 'bfloat16' or 'float16': the teacher is run under autocast and
            gives features of that precision, whatever the student is trained in.
        teacher_compile: True, or arguments of ``torch.compile``, compiles the teacher's backbone and neck.
        averaged_weights: Which weights of ``teacher_ckpt`` and ``student_ckpt`` are taken where a file holds
            those of an exponential moving average (EMA) and the raw ones; the log says so.
        non_finite: What a loss that is NaN or infinite does: 'stop' ends the training with a sentence, 'skip'
            leaves the step out and counts it; see :class:`~dpk_mm.models.algorithms.finite.NonFiniteGuard`.
        **kwargs: Of ``SingleTeacherDistill``: ``student_trainable`` (False: its weights and running statistics stay,
            and it is in eval mode), ``calculate_student_loss``, ``data_preprocessor``.

    Raises:
        FileNotFoundError: At ``init_weights()``, if ``teacher_ckpt`` does not exist.
        ValueError: At ``init_weights()``, if ``teacher_ckpt``, ``student_ckpt`` or ``inherit`` does not fit; here for
            unknown options, if logits of different numbers of classes are compared, or if student and teacher were
            made for different image sizes; at the first batch, if its images are not of the teacher's size.
        NonFiniteLossError: (a ValueError) In a training step, see ``non_finite``.
    """

    def __init__(
        self,
        architecture: dict | nn.Module,
        teacher: dict | nn.Module,
        distiller: dict | None = None,
        teacher_ckpt: str | None = None,
        teacher_command: str | None = None,
        student_ckpt: str | None = None,
        inherit: Sequence[str] | None = None,
        teacher_forward: str = 'auto',
        teacher_input_size: int | Sequence[int] | None = None,
        teacher_precision: str | None = None,
        teacher_compile: bool | Mapping[str, Any] = False,
        averaged_weights: bool = True,
        non_finite: str = 'stop',
        **kwargs: Any,
    ) -> None:
        if distiller is None or 'method' in kwargs:
            raise UsageError(
                "model.distiller is missing; give dict(type='DPKDistiller', records=..., distill_losses=...)."
                if 'method' not in kwargs
                else 'model.method is the short form of a config, which has to be completed before the model is built: '
                'use tools/train.py, or cfg = dpk_mm.complete(cfg).cfg before Runner.from_cfg(cfg).'
            )
        guard = NonFiniteGuard(non_finite)
        check_precision(teacher_precision)
        if kwargs.pop('teacher_trainable', False):
            raise ValueError(
                'DPKDistill: teacher_trainable=True is not supported; the teacher is fixed.'
            )
        if not kwargs.pop('teacher_norm_eval', True):
            raise ValueError(
                'DPKDistill: teacher_norm_eval=False is not supported; all of the teacher is in eval '
                'mode.'
            )
        if isinstance(architecture, dict):
            architecture = MODELS.build(architecture)
        kwargs['data_preprocessor'] = student_preprocessor(
            kwargs.get('data_preprocessor'), architecture
        )
        # What the teacher and the distiller draw for their first weights must not move the student's.
        with torch.random.fork_rng(devices=[]):
            super().__init__(
                distiller, teacher, teacher_ckpt=None, architecture=architecture, **kwargs
            )
        if not self.student_trainable:
            self.architecture.requires_grad_(False).eval()
        settings = teacher if isinstance(teacher, Mapping) else {}
        # True: timm and the like have loaded their own
        self._teacher_pretrained = bool(settings.get('pretrained'))
        if not teacher_ckpt and settings and settings.get('pretrained') is not True:
            # nothing calls the teacher's init_weights(), which would load it
            teacher_ckpt = pretrained_file(getattr(self.teacher, 'init_cfg', None))
        self.teacher_ckpt = teacher_ckpt
        self.teacher_command = teacher_command
        self.student_ckpt = student_ckpt
        if isinstance(inherit, str):
            raise UsageError(
                f'model.inherit is the text {inherit!r}, and a list of parts was expected: write [{inherit!r}].'
            )
        self.inherit = tuple(inherit or ())
        self.averaged_weights = averaged_weights
        self._teacher_forward = TeacherForward(teacher_forward, self.teacher)
        self.teacher_precision = teacher_precision
        if teacher_compile is not False:
            recorders = self.distiller.teacher_recorders.recorders.values()
            sources = [leaf.source for r in recorders for leaf in getattr(r, 'recorders', [r])]
            compile_teacher(self.teacher, teacher_compile, sources)
        self._teacher_ready = False
        self._shares_teacher = False
        self._looks_at_teacher = True
        self._resizing = None if teacher_input_size is None else TeacherResizing(teacher_input_size)
        if self._resizing is not None and not is_classifier(self.teacher):
            self._resizing.say_deliveries(list(self.distiller.deliveries.deliveries))
        give_preprocessor(self.teacher, self.data_preprocessor, teacher)
        teacher_input = TeacherInput(self.data_preprocessor, self.teacher.data_preprocessor)
        object.__setattr__(self, 'teacher_input', teacher_input)
        self.teacher.eval()
        # Not ``with_module``: a copy of the model then has a hook of its own.
        self.architecture._register_load_state_dict_pre_hook(strip_student_prefix)
        self.register_load_state_dict_post_hook(_after_loading)
        self._guard = guard
        self._seen: dict[str, Tensor] = {}
        self._student_begun = False
        self._checked_sizes: set[tuple[int, ...]] = set()
        check_class_counts(self.distiller, self.student, self.teacher)
        if self._resizing is None:
            size, source = expected_size(network_of(self.student)), 'the student'
        else:
            size, source = self._resizing.size, 'model.teacher_input_size'
        check_input_size(self.teacher, size, source, 'give both the same img_size')
        self.forward_to_student()

    def __setattr__(self, name: str, value: Any) -> None:
        # Out of nn.Module's sight: no parameter, no buffer, no child.
        if name == 'teacher':
            object.__setattr__(self, name, value)
            return
        replaced = None
        if name == 'data_preprocessor' and 'teacher_input' in self.__dict__:
            replaced = self.data_preprocessor
        super().__setattr__(name, value)
        if replaced is not None:
            # the student's own, and what the teacher's batches are computed from
            self.architecture.data_preprocessor = value
            if self.teacher.data_preprocessor is replaced:  # it has none of its own
                self.teacher.data_preprocessor = value
            teacher_input = TeacherInput(value, self.teacher.data_preprocessor)
            object.__setattr__(self, 'teacher_input', teacher_input)

    def optimizer_parts(self) -> tuple[nn.Module, dict[str, nn.Module]]:
        """What the optimizer's constructors ask for that go by the names of the student's parameters.

        Returns:
            The student, and by name the other children.
        """
        others = {k: child for k, child in self.named_children() if k != 'architecture'}
        return self.architecture, {
            name: child for name, child in others.items() if any(True for _ in child.parameters())
        }

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> DPKDistill:
        """The teacher follows to devices and precisions, except that of a copy, which is the original's."""
        super()._apply(fn, recurse)
        if not self._shares_teacher:
            self.teacher._apply(fn, recurse)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> DPKDistill:
        """A copy shares the teacher, which nothing trains: ``EMAHook`` would hold a second one on the GPU."""
        # A preprocessor may be the student's, too. Losses hold parts of the teacher, which have to be the same ones.
        own = {id(part) for part in _parts_of(self)}
        memo.update({id(part): part for part in _parts_of(self.teacher) if id(part) not in own})
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__dict__, memo))
        copied._shares_teacher, copied._looks_at_teacher = True, False
        return copied

    def train(self, mode: bool = True) -> DPKDistill:
        """Sets the mode of distiller and student, unless that is not trained; the teacher stays in eval mode."""
        nn.Module.train(self, mode)
        if not self.student_trainable:
            self.architecture.eval()
        self.teacher.eval()
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Takes files of every form: the student's plain names, full checkpoints, those of mmrazor."""
        self._loading = prepare_loading(self, state_dict, prefix, error_msgs)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def init_weights(self) -> None:
        """Initialises student and distiller, loads the teacher, lets the student inherit; once, as mmengine's do."""
        # The teacher first: a wrong file is then found before anything else is done.
        self._prepare_teacher()
        first = not self.is_init
        super().init_weights()
        if not first:  # what was trained since stays
            return
        if self.student_ckpt:
            load_initial_student(self.student, self.student_ckpt, self.averaged_weights)
            print_log(f'The student starts from {self.student_ckpt}.', 'current')
        if self.inherit:
            inherit_weights(self.student, self.teacher, self.inherit)
            print_log(
                f'The student inherits {", ".join(self.inherit)} from the teacher.', 'current'
            )

    def _prepare_teacher(self) -> None:
        if self._teacher_ready:
            return
        if self.teacher_ckpt:
            load_teacher(
                self.teacher, self.teacher_ckpt, self.teacher_command, self.averaged_weights
            )
            print_log(f'Loaded the teacher from {self.teacher_ckpt}.', 'current')
        elif self._teacher_pretrained:
            print_log(
                'The teacher has the weights that pretrained=True of its config loads.', 'current'
            )
        elif getattr(self.teacher, 'needs_checkpoint', True):
            print_log('teacher_ckpt is not set: the teacher is not trained.', 'current', level=30)
        self._teacher_ready = True

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """As mmengine has it; an exception that a NaN or an infinity causes is the guard's, see ``non_finite``."""
        try:
            return super().forward(inputs, data_samples, mode)
        except Exception as error:
            if mode != 'loss':
                self._guard.prediction_failed(self, error)
                raise
            recorded = getattr(self.distiller, 'pop_seen', dict)()  # mmrazor's distillers have none
            seen = {'input': inputs, **recorded} if isinstance(inputs, Tensor) else recorded
            instead = self._guard.forward_failed(self, error, seen)
            if instead is not None and get_world_size() > 1:
                self._take_part(inputs, data_samples)
            getattr(self.distiller, 'clear_records', lambda: None)()
            if instead is None:
                raise
            losses, self._seen = instead
            return losses

    @torch.no_grad()
    def _take_part(self, inputs: Tensor, data_samples: list[BaseDataElement] | None) -> None:
        """Does what of a failed forward pass the other ranks wait for: CKA and SyncBN exchange numbers."""
        with suppress(Exception):
            if not self._student_begun:
                self._run_student(inputs, data_samples)
            self.distiller.compute_remaining_losses()

    def loss(
        self, batch_inputs: Tensor, data_samples: list[BaseDataElement] | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch_inputs: ``[N, 3, H, W]``, normalised for the student.
            data_samples: Ground truth.

        Returns:
            'student.*' and 'distill.*'. Only the former once distillation was stopped
            (mmrazor's ``StopDistillHook``); the teacher is then not run either.
        """
        losses: dict[str, Tensor] = {}
        distiller = self.distiller
        self._student_begun = False
        distil = not self.distillation_stopped
        if distil:
            self.record_teacher(batch_inputs, data_samples)
        student_losses = self._run_student(batch_inputs, data_samples)
        if self.calculate_student_loss:
            losses.update(add_prefix(student_losses, 'student'))
        if distil:
            losses.update(add_prefix(distiller.compute_distill_losses(), 'distill'))
            pop_seen = getattr(distiller, 'pop_seen', dict)  # mmrazor's distillers have none
            self._seen = {'input': batch_inputs.detach(), **pop_seen()}
        elif is_distributed():
            unused = [p for p in distiller.parameters() if p.requires_grad]
            losses = with_zero_gradient(losses, unused)
        return losses

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor | int, Mapping[str, Tensor]]:
        """Sums the losses, as mmengine does, and sees to it that the sum is finite.

        Args:
            losses: Of :meth:`loss`.

        Returns:
            The total, a scalar, and all parts for the log.

        Raises:
            NonFiniteLossError: If the total of any rank is NaN or infinite, see ``non_finite``.
        """
        total, log_vars = super().parse_losses(losses)
        # Held no longer than the graph itself.
        seen, self._seen = self._seen, {}
        return self._guard.check(self, total, log_vars, seen)

    def record_teacher(
        self, batch_inputs: Tensor, data_samples: list[BaseDataElement] | None = None
    ) -> None:
        """Runs the teacher on a batch, whose features are in the distiller's recorders then.

        Args:
            batch_inputs: ``[N, 3, H, W]``, normalised for the student.
            data_samples: Ground truth.
        """
        distiller = self.distiller
        self._prepare_teacher()
        if not self._looks_at_teacher:  # a copy that is run
            self._looks_at_teacher = True
            attach_again(distiller.teacher_recorders, self.teacher)
        weight = next(self.teacher.parameters(), None)
        # a copy, or the original of this one, may have run it elsewhere
        if weight is not None and weight.device != batch_inputs.device:
            self.teacher.to(batch_inputs.device)
        getattr(distiller, 'attach_again', lambda: None)()
        self._check_batch_size(batch_inputs)
        # A batch whose student failed, or was not run, has left its items there.
        for delivery in distiller.deliveries.deliveries.values():
            delivery.data_queue.clear()
        distiller.set_deliveries_override(False)
        with torch.no_grad(), distiller.teacher_recorders, distiller.deliveries:
            self._run_teacher(batch_inputs, data_samples)

    def _check_batch_size(self, inputs: Tensor) -> None:
        size = tuple(inputs.shape[-2:])
        if self._resizing is None and size not in self._checked_sizes:
            check_input_size(
                self.teacher,
                size,
                'the pipeline gives images of',
                'change the sizes in train_pipeline and test_pipeline',
            )
            self._checked_sizes.add(size)

    def _run_student(
        self, inputs: Tensor, data_samples: list[BaseDataElement] | None
    ) -> dict[str, Tensor]:
        self._student_begun = True
        self._guard.before_forward(self)
        with ExitStack() as stack:
            stack.enter_context(
                torch.set_grad_enabled(self.student_trainable and torch.is_grad_enabled())
            )
            # after the stop no teacher delivers, and nobody reads the records
            if not self.distillation_stopped:
                self.distiller.set_deliveries_override(True)
                stack.enter_context(self.distiller.student_recorders)
                stack.enter_context(self.distiller.deliveries)
            # Positionally: a recorder of the model's inputs does not see keywords.
            return self.student(inputs, data_samples, mode='loss')

    def _run_teacher(self, inputs: Tensor, data_samples: list[BaseDataElement] | None) -> None:
        image = inputs.shape[-2:]
        inputs = self.input_of_teacher(inputs, data_samples)
        resizing = self._resizing

        def samples() -> Sequence[Any] | None:
            return data_samples if resizing is None else resizing.samples(data_samples, image)

        with in_precision(self.teacher_precision, inputs.device):
            self._teacher_forward(self.teacher, self.distiller, inputs, samples)
        self.restore_teacher_maps(image)

    def input_of_teacher(self, inputs: Tensor, data_samples: Sequence[Any] | None = None) -> Tensor:
        """A batch as the teacher sees it: with its own normalisation, and of the ``teacher_input_size``.

        Args:
            inputs: ``[N, C, H, W]``, normalised for the student.
            data_samples: Of the images.
        """
        inputs = self.teacher_input(inputs, data_samples)
        return inputs if self._resizing is None else self._resizing.images(inputs)

    def restore_teacher_maps(self, image: Sequence[int]) -> None:
        """Resizes what the teacher's recorders hold to the grid of the student's images.

        Args:
            image: (height, width) of the student's images.
        """
        if self._resizing is not None:
            self._resizing.maps(self.distiller.teacher_recorders, image)

    def as_student_grid(self, feature: Any, image: Sequence[int]) -> Any:
        """Features of the teacher on the grid of the student's images, as the losses get them.

        Args:
            feature: Of the teacher on :meth:`input_of_teacher`, a tensor or some of them.
            image: (height, width) of the student's images.
        """
        return feature if self._resizing is None else self._resizing.back(feature, image)

    def teacher_val_step(self, batch: Any) -> Any:
        """As the teacher's own ``val_step``, on images of the ``teacher_input_size``.

        Args:
            batch: Of a dataloader.

        Returns:
            Data samples with predictions, in the coordinates of the images as they were read.
        """
        if self._resizing is None:
            return self.teacher.val_step(batch)
        data = self.teacher.data_preprocessor(batch, False)
        return self.teacher_predict(data['inputs'], data.get('data_samples'))

    def teacher_predict(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> Any:
        """What the teacher predicts.

        Args:
            inputs: ``[N, C, H, W]``, normalised for the teacher, of the student's size.
            data_samples: Of the images; they get the predictions.
        """
        if self._resizing is None:
            return self.teacher(inputs, data_samples, mode='predict')
        return self._resizing.predict(self.teacher, inputs, data_samples)

    @property
    def teacher_forward(self) -> str:
        """How much of the teacher is run, see :class:`~dpk_mm.models.teacher.forward.TeacherForward`."""
        return self._teacher_forward.depth


def _parts_of(module: nn.Module) -> Iterator[Any]:
    yield from module.modules()
    yield from module.parameters()
    yield from module.buffers()


def _after_loading(model: DPKDistill, keys: Any) -> None:
    loading = model.__dict__.pop('_loading', None)
    if loading is not None:
        of_torch = isinstance(keys, torch.nn.modules.module._IncompatibleKeys)
        report_loading(model, loading, keys.missing_keys, keys.unexpected_keys, not of_torch)
