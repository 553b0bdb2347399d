"""What mmengine forgets at a resume: each case against a training that was not stopped."""

import copy

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import EarlyStoppingHook, Hook
from torch import nn

from tests.engine.hooks.test_random_state_hook import Draws, Stop, build, train

EVERY = dict(by_epoch=True, interval=1)


class Resizes(nn.Module):
    """The part of mmdet's BatchSyncRandomResize that has a state."""

    def __init__(self):
        super().__init__()
        self._input_size = None
        self.seen = []

    def resize(self):
        self.seen.append(self._input_size)
        if len(self.seen) % 4 == 2:
            self._input_size = tuple(32 * side for side in torch.randint(1, 1000, (2,)).tolist())


class Resize(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.data_preprocessor.batch_augments.resize()


def resizing(folder, **kwargs):
    run = build(folder, 0, checkpoint=dict(by_epoch=False, interval=3), **kwargs)
    run.model.data_preprocessor.batch_augments = Resizes()
    run.register_hook(Resize())
    return run


def test_the_size_that_was_drawn_holds_after_a_resume(tmp_path):
    whole = resizing(tmp_path / 'whole')
    train(whole)
    with pytest.raises(Stop):
        train(resizing(tmp_path / 'run', stop=4))
    resumed = resizing(tmp_path / 'run', resume=True)
    sizes = resumed.model.data_preprocessor.batch_augments
    train(resumed)
    seen = whole.model.data_preprocessor.batch_augments.seen
    assert seen[3] is not None and sizes.seen[0] == seen[3]


def test_the_resizing_of_yolox_is_found():
    from mmdet.models.data_preprocessors import BatchSyncRandomResize

    assert hasattr(BatchSyncRandomResize((32, 64)), '_input_size')


class Scores(BaseMetric):
    """A score by the number of trained batches, which a repeated validation does not change."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores
        self.validated = []

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        epoch = self.run.epoch
        self.validated.append(epoch)
        return dict(acc=self.scores[epoch - 1])


def scored(folder, scores, *hooks, save_best=False, **kwargs):
    loader = dict(dataset=Draws(), batch_size=5, sampler=dict(type='DefaultSampler', shuffle=False))
    loader['collate_fn'] = dict(type='pseudo_collate')
    metric = Scores(scores)
    run = build(
        folder,
        0,
        checkpoint=dict(EVERY, save_best='acc') if save_best else EVERY,
        train_cfg=dict(by_epoch=True, max_epochs=len(scores)),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=Evaluator(metric),
        **kwargs,
    )
    metric.run = run
    for hook in hooks:
        run.register_hook(copy.deepcopy(hook))
    return run, metric.validated


@pytest.mark.parametrize('save_best', [False, True])
@pytest.mark.parametrize('stop', [6, 12, 16, 21])
@pytest.mark.parametrize('priority', ['LOWEST', 'NORMAL'])
def test_early_stopping_goes_on_waiting(tmp_path, save_best, stop, priority):
    scores = [0.5, 0.6, 0.4, 0.4, 0.4, 0.9, 0.9]
    hook = EarlyStoppingHook(monitor='acc', patience=3, min_delta=0.0)
    hook.priority = priority
    whole, _ = scored(tmp_path / 'whole', scores, hook, save_best=save_best)
    train(whole)
    assert whole.epoch == 5
    stopped, _ = scored(tmp_path / 'run', scores, hook, save_best=save_best, stop=stop)
    with pytest.raises(Stop):
        train(stopped)
    resumed, _ = scored(tmp_path / 'run', scores, hook, save_best=save_best, resume=True)
    train(resumed)
    assert resumed.epoch == 5
    states = [
        torch.load(tmp_path / name / 'epoch_5.pth', weights_only=False)['kept_state']
        for name in ('whole', 'run')
    ]
    assert states[0] == states[1]
    assert states[0]['early_stopping']['acc'][1] == 0.6


PLATEAU = dict(type='ReduceOnPlateauLR', monitor='acc', rule='greater', patience=1, factor=0.1)


@pytest.mark.parametrize(
    ('stop', 'again'),
    [
        (6, [2, 3, 4, 5]),  # the first validation was the best so far: it is in the checkpoint
        (11, [2, 3, 4, 5]),  # the second was not
        (16, [3, 4, 5]),
    ],
)
def test_a_validation_that_the_checkpoint_holds_is_not_repeated(tmp_path, stop, again):
    scores = [0.5, 0.4, 0.4, 0.4, 0.4]
    schedule = dict(param_scheduler=[dict(PLATEAU)], save_best=True)
    whole, _ = scored(tmp_path / 'whole', scores, **schedule)
    train(whole)
    stopped, _ = scored(tmp_path / 'run', scores, stop=stop, **schedule)
    with pytest.raises(Stop):
        train(stopped)
    resumed, validated = scored(tmp_path / 'run', scores, resume=True, **schedule)
    train(resumed)
    assert validated == again
    files = [
        torch.load(tmp_path / name / 'epoch_5.pth', weights_only=False) for name in ('whole', 'run')
    ]
    assert files[0]['param_schedulers'] == files[1]['param_schedulers']
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    assert files[0]['message_hub']['runtime_info']['best_score'] == 0.5


def test_checkpoints_of_earlier_versions_are_resumed(tmp_path):
    hook = EarlyStoppingHook(monitor='acc', patience=3, min_delta=0.0)
    stopped, _ = scored(tmp_path / 'run', [0.5, 0.6, 0.7], hook, stop=11)
    with pytest.raises(Stop):
        train(stopped)
    state = torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=False)
    del state['kept_state']
    torch.save(state, tmp_path / 'run' / 'epoch_2.pth')
    resumed, validated = scored(tmp_path / 'run', [0.5, 0.6, 0.7], hook, resume=True)
    train(resumed)
    assert resumed.epoch == 3 and validated == [2, 3]
