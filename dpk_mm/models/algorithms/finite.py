"""A loss that is NaN or infinite stops the training with a sentence, or its step is skipped and counted."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.logging import MessageHub, print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.optimizer import register_optimizer_step_pre_hook

from dpk_mm.errors import UsageError

from ...functional.host_copy import HostCopy
from .failed_forward import first_damaged, first_not_finite, not_finite_values

MODES = ('stop', 'skip')
SKIPPED = 'train/skipped_steps'
MAX_IN_A_ROW = 50


class NonFiniteLossError(UsageError):
    """The loss is NaN or infinite; the message says where and when."""


class _Pending(NamedTuple):
    """A loss whose flags are on their way to the host, and what is told if it is bad."""

    flags: HostCopy  # of any rank, of this one
    when: str
    model: nn.Module
    log_vars: Mapping[str, Tensor]
    seen: Mapping[str, Tensor]
    failure: Exception | None


class NonFiniteGuard:
    """Looks at every total loss before the weights change.

    The decision is the same on every rank. It costs one all-reduce of one number where there are several ranks, and two
    flags read by the host each step. Skipping has to read them before the backward pass, where the host waits for
    the device. Stopping on CUDA reads them when the first optimizer is about to step: the backward pass is queued by
    then, and the device never idles for it. (A gradient scaler that leaves the step out leaves that to the next loss.)

    Only the loss is looked at, not the gradient: a finite loss can have a gradient that is NaN, and with it the
    weights become NaN. The next step then has no finite loss; both modes stop there and say that the weights are
    the cause. A checkpoint written between the two holds such weights. (A gradient scaler leaves out steps with
    infinite gradients; those are its own and not counted.)

    Skipping: the gradients of the batch become zero; if no other batch of the same accumulation gave a gradient, the
    optimizers leave the weights and their own state alone. The running statistics of batch normalisation go back to
    what they were before the batch. Works with any number of optimizers, gradient scaling, accumulation and
    DistributedDataParallel. The count is ``train/skipped_steps`` in the message hub and goes on after a resume. After
    50 skipped steps in a row the training stops.

    A forward pass that ends with an exception, because an assigner or a loss function refuses a NaN, say, counts as a
    loss of NaN where something that is not finite was there (:func:`not_finite_values`); any other exception goes on.
    A head that communicates between ranks *in* its loss, after what failed, cannot be skipped on one rank alone: the
    others wait for it.

    Args:
        mode: 'stop' or 'skip'.
        defer: Whether stopping reads the loss when an optimizer is about to step. None: on CUDA.

    Raises:
        ValueError: If the mode is unknown.
    """

    def __init__(self, mode: str = 'stop', defer: bool | None = None) -> None:
        if mode not in MODES:
            raise ValueError(f'non_finite must be one of {MODES}, but is {mode!r}.')
        self.mode = mode
        self.defer = defer
        self._pending: _Pending | None = None
        self._watched = False
        self._statistics: list[tuple[Tensor, Tensor]] = []
        self._hook: Any = None
        self._usable = False
        self._in_a_row = 0
        self._failure: Exception | None = None

    def __deepcopy__(self, memo: dict) -> NonFiniteGuard:
        return type(self)(self.mode, self.defer)  # what is under way belongs to the model that runs

    def before_forward(self, model: nn.Module) -> None:
        """Keeps what the forward pass of a skipped batch would spoil."""
        if self.mode == 'skip' and model.training:
            self._statistics = [
                (buffer, buffer.clone())
                for module in model.modules()
                if isinstance(module, _NormBase) and module.training
                for buffer in module.buffers(recurse=False)
            ]

    def forward_failed(
        self, model: nn.Module, error: Exception, seen: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
        """Losses in place of those of a forward pass that a NaN or an infinity ended.

        They are NaN, so that :meth:`check` decides, on all ranks alike, and reach every parameter:
        DistributedDataParallel waits for all of them.

        Args:
            model: The algorithm.
            error: What the forward pass ended with.
            seen: As for :meth:`check`, as far as it was computed.

        Returns:
            The losses and what :meth:`check` is to see, or None for an error with another cause.
        """
        found = not_finite_values(model, error, seen)
        if found is None:
            return None
        self._failure = error
        params = [p for p in model.parameters() if p.requires_grad]
        touched = [p.flatten()[:1].sum().float() for p in params]
        return {'loss_forward': torch.stack(touched).sum() * float('nan')}, found

    def prediction_failed(self, model: nn.Module, error: Exception) -> None:
        """The same for a validation: there are no losses, and nothing to skip.

        Raises:
            NonFiniteLossError: If a weight or a running statistic is not finite.
        """
        if not_finite_values(model, error, {}) is None:
            return
        name = first_damaged(model)
        if name:
            raise NonFiniteLossError(
                f'{_failed(error)}, because {name} is not finite: the gradient of an earlier iteration was not; '
                'set optim_wrapper.clip_grad or a lower learning rate.'
            ) from error

    def check(
        self,
        model: nn.Module,
        loss: Tensor | int,
        log_vars: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
    ) -> tuple[Tensor | int, Mapping[str, Tensor]]:
        """Passes a finite loss on.

        Args:
            model: The algorithm, for its parameters and its teacher.
            loss: The total loss, a scalar; mmengine's 0 if no part counts as a loss.
            log_vars: Its parts by name.
            seen: What the network computed on the way, in that order, by a name for
                the user.

        Returns:
            Both as they are; for a skipped batch a loss of zero with zero
            gradients, and the finite parts.

        Raises:
            NonFiniteLossError: On every rank, if the loss of any is NaN or infinite and the mode is 'stop', or the
                weights are, or too many batches in a row were skipped.
        """
        self.settle()
        if not isinstance(loss, Tensor):
            return loss, log_vars
        bad = _any_and_own(loss)
        failure, self._failure = self._failure, None
        if self.mode == 'stop' and (loss.is_cuda if self.defer is None else self.defer):
            self._pending = _Pending(HostCopy(bad), _when(), model, log_vars, seen, failure)
            self._watch_optimizers()
            return loss, log_vars
        statistics, self._statistics = self._statistics, []
        params = [p for p in model.parameters() if p.requires_grad]
        if all(p.grad is None for p in params):
            self._usable = False  # the first batch of an accumulation
        any_bad, own = bad.tolist()
        if not any_bad:
            self._usable, self._in_a_row = True, 0
            self._let_optimizers_step()
            return loss, log_vars

        self._in_a_row += 1
        name = first_not_finite(model.named_parameters())
        # The gradients were the same on every rank, and so are the weights.
        if self.mode == 'stop' or name or self._in_a_row > MAX_IN_A_ROW:
            sentence = self._sentence(_when(), model, log_vars, seen, own, name, failure)
            raise NonFiniteLossError(sentence) from failure
        for buffer, value in statistics:
            buffer.copy_(value)
        if not self._usable:
            self._keep_optimizers_from_stepping(params)
        self._count(log_vars, seen, own, failure)
        return _zero(loss, params), {k: v for k, v in log_vars.items() if torch.isfinite(v).all()}

    def settle(self) -> None:
        """Reads the last loss, if that was put off.

        Raises:
            NonFiniteLossError: As :meth:`check`.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        flags, when, model, log_vars, seen, failure = pending
        any_bad, own = flags.get().tolist()
        if any_bad:
            name = first_not_finite(model.named_parameters())
            sentence = self._sentence(when, model, log_vars, seen, own, name, failure)
            raise NonFiniteLossError(sentence) from failure

    def _watch_optimizers(self) -> None:
        # For good: a hook that removed itself would change the dict that torch is going through.
        if self._watched:
            return
        self._watched = True
        guard = weakref.ref(self)

        def settle(*_: Any) -> None:
            alive = guard()
            if alive is not None:
                alive.settle()

        weakref.finalize(self, register_optimizer_step_pre_hook(settle).remove)

    def _keep_optimizers_from_stepping(self, params: list[nn.Parameter]) -> None:
        # Without gradients a step changes nothing, momentum and weight decay included. They go at the last moment,
        # because DistributedDataParallel, clipping and the gradient scaler want to see them before.
        def drop_gradients(*_: Any) -> None:
            for param in params:
                param.grad = None

        self._let_optimizers_step()
        self._hook = register_optimizer_step_pre_hook(drop_gradients)

    def _let_optimizers_step(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _count(
        self,
        log_vars: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
        own: bool,
        failure: Exception | None,
    ) -> None:
        hub = MessageHub.get_current_instance()
        before = hub.get_scalar(SKIPPED).current() if SKIPPED in hub.log_scalars else 0
        hub.update_scalar(SKIPPED, int(before) + 1)
        if own:
            print_log(
                f'{_when()}: {_what(log_vars, failure)}{_where(seen)}; the step is skipped, the '
                f'{int(before) + 1}. of this training.',
                'current',
                level=30,
            )

    def _sentence(
        self,
        when: str,
        model: nn.Module,
        log_vars: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
        own: bool,
        name: str | None,
        failure: Exception | None,
    ) -> str:
        if not own:
            return f'{when}: the loss of another rank is not finite; its own message says where.'
        problem = f'{when}: {_what(log_vars, failure)}'
        teacher = getattr(model, 'teacher', None)
        damaged = teacher is not None and first_damaged(teacher)
        if damaged:
            return f'{problem}, because {damaged} of the teacher is not finite: teacher_ckpt is damaged, give another.'
        if name:
            return (
                f'{problem}, because the weight {name} is not finite: the gradient of an earlier iteration was not, '
                'and a checkpoint written since holds such weights; go back to the one before, and set '
                'optim_wrapper.clip_grad or a lower learning rate.'
            )
        remedy = (
            'lower the learning rate, set optim_wrapper.clip_grad, or train in bfloat16 or float32'
        )
        if self.mode == 'stop':
            remedy += "; model.non_finite='skip' leaves such steps out and counts them"
        else:
            remedy = f'{self._in_a_row - 1} steps in a row were skipped before; {remedy}'
        return f'{problem}{_where(seen)}; {remedy}.'


def _any_and_own(loss: Tensor) -> Tensor:
    """Whether the loss of any rank is not finite, and whether this one's is; two bools on the device."""
    own = (~torch.isfinite(loss.detach())).float().reshape(1)
    of_any = own.clone()
    if get_world_size() > 1:
        all_reduce(of_any, 'max')
    return torch.cat([of_any, own]).bool()


def _zero(loss: Tensor, params: list[nn.Parameter]) -> Tensor:
    """A loss whose gradient is zero for every parameter that the real one would have reached.

    Of exactly these DistributedDataParallel waits for gradients; and ``0 * loss`` would not do, since 0 * NaN is NaN.
    """
    reached: set[int] = set()
    nodes, visited = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, 'variable'):
            reached.add(id(node.variable))
        if node.name() == 'CheckpointFunctionBackward':
            # torch's checkpoint (use_reentrant) runs a part again in the backward pass, and hides its parameters
            reached.update(map(id, params))
            break
        nodes.extend(parent for parent, _ in node.next_functions)
    # one element of each is enough for its whole gradient to be there
    parts = [p.flatten()[:1].sum().float() * 0 for p in params if id(p) in reached]
    return torch.stack(parts).sum() if parts else torch.zeros_like(loss, requires_grad=True)


def _when() -> str:
    hub = MessageHub.get_current_instance()
    iteration, epoch = hub.get_info('iter'), hub.get_info('epoch')
    if iteration is None:
        return 'non-finite loss'
    # as they are counted in the log
    return f'iteration {iteration + 1}' + (f' (epoch {epoch + 1})' if epoch is not None else '')


def _failed(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ['']
    return f'the forward pass failed ({type(error).__name__}: {lines[0]})'


def _what(log_vars: Mapping[str, Tensor], failure: Exception | None) -> str:
    if failure is not None:
        return _failed(failure)
    parts = {
        name: value.detach().float().item()
        for name, value in log_vars.items()
        if name != 'loss' and 'loss' in name and not torch.isfinite(value).all()
    }
    if not parts:
        return 'the sum of the losses overflows'
    return ', '.join(f'{name} is {value}' for name, value in parts.items())


def _where(seen: Mapping[str, Tensor]) -> str:
    """What was not finite on the way, in the order of computation."""
    if not seen:
        return ''
    found = [
        f'{name} ({"NaN" if torch.isnan(value).any() else "infinite"})'
        for name, value in seen.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if not found:
        return '; the input and all recorded features are finite, so it began in the loss'
    rank = f' on rank {get_rank()}' if get_world_size() > 1 else ''
    return f'; not finite{rank}: {", ".join(found[:4])}' + ', ...' * (len(found) > 4)
