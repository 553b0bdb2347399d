"""The weight of a loss follows from the share of the gradient that it is to have."""

import io
import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from mmrazor.registry import HOOKS

from dpk_mm.engine.hooks.feature_gradients import FeatureGradient
from dpk_mm.errors import UsageError
from tests.helpers.forked import run_ranks
from tests.helpers.toy_distillation import PullLoss, Toy, runner_of, scalars

INPUTS = torch.ones(2, 3)  # norm sqrt(6) of every gradient of a pull of 1


def build(**kwargs):
    kwargs = {'reference': 'feature', **kwargs}
    return HOOKS.build(dict(type='mmrazor.GradientShareHook', **kwargs))


def begin(model, hook, **kwargs):
    runner = runner_of(model, [hook], **kwargs)
    hook.before_run(runner)
    hook.before_train(runner)
    return runner


def step(model, hook, runner, inputs=INPUTS):
    """One iteration; the gradient of everything on the two features."""
    model.zero_grad()
    total, _ = model.parse_losses(model(inputs))
    total.backward()
    hook.after_train_iter(runner, runner.iter)
    runner.iter += 1
    return model.student.w.grad / inputs.sum()


def test_the_gradient_has_the_chosen_share():
    model, hook = Toy(dict(loss_x=PullLoss([10.0, -0.5]))), build(share=0.2)
    runner = begin(model, hook)
    # the task pulls with 3 and 4, so a fifth of it is 0.6 and 0.8
    assert step(model, hook, runner).tolist() == pytest.approx([3 + 0.6, 4 - 0.8])
    found = scalars(runner)
    assert found['gradient_unweighted_share/distill.x.feats[0]'] == pytest.approx(10 / 3)
    assert found['gradient_unweighted_share/distill.x.feats[1]'] == pytest.approx(0.5 / 4)
    assert found['gradient_weight/distill.x.feats[0]'] == pytest.approx(0.06)
    assert found['gradient_weight/distill.x.feats[1]'] == pytest.approx(1.6)
    assert found['gradient_cosine/distill.x.feats[0]'] == pytest.approx(1.0)
    assert found['gradient_cosine/distill.x.feats[1]'] == pytest.approx(-1.0)


def test_beside_a_loss_gradient_hook_each_logs_its_own_share():
    model, hook = Toy(dict(loss_x=PullLoss([10.0, -0.5]))), build(share=0.2)
    runner = begin(model, hook)
    other = HOOKS.build(dict(type='mmrazor.LossGradientHook', interval=1, by_level=True))
    other.before_train(runner)
    step(model, hook, runner)
    history = runner.message_hub.log_scalars
    # with the weight that has just been set
    assert history['train/gradient_share/distill.x.feats[0]'].data[0].tolist() == [
        pytest.approx(0.2)
    ]
    assert history['train/gradient_unweighted_share/distill.x.feats[0]'].data[0].tolist() == [
        pytest.approx(10 / 3)
    ]


def test_gradients_that_float16_has_only_with_the_loss_scale():
    model, hook = Toy(dict(loss_x=PullLoss([10.0, -0.5]))).half(), build(share=0.2)
    runner = begin(model, hook)
    scaler = SimpleNamespace(get_scale=lambda: 2.0**16)
    runner.optim_wrapper = SimpleNamespace(loss_scaler=scaler)
    losses = model(INPUTS.half())
    model.parse_losses({name: 1e-9 * value.float() for name, value in losses.items()})
    factors = model.distiller.gate('loss_x').factors
    assert factors == pytest.approx({'feats[0]': 0.06, 'feats[1]': 1.6}, rel=1e-2)


@pytest.mark.parametrize('weight', [1.0, 50.0])
def test_the_loss_s_own_weight_makes_no_difference_to_the_student(weight):
    model = Toy(dict(loss_x=PullLoss([10.0, -0.5], loss_weight=weight)))
    hook = build(share=0.2)
    runner = begin(model, hook)
    assert step(model, hook, runner).tolist() == pytest.approx([3.6, 3.2])
    # its own parameter is trained with the weight that it has: sum of 10 * 6 * w0 - 0.5 * 6 * w1
    own = model.distiller.distill_losses.loss_x.scale.grad
    assert own.item() == pytest.approx(weight * (10 * 6 * 1.0 - 0.5 * 6 * 2.0))


def test_the_share_is_of_the_task_on_all_features():
    # on a level without objects the task has no gradient
    model = Toy(dict(loss_x=PullLoss([10.0, -0.5], names=True)), tasks=(3.0, 0.0))
    hook = HOOKS.build(dict(type='mmrazor.GradientShareHook', share=0.5))
    runner = begin(model, hook)
    assert step(model, hook, runner).tolist() == pytest.approx([3 + 10.0, -1.5])
    assert scalars(runner)['gradient_unweighted_share/distill.x.P5'] == pytest.approx(0.5 / 3)
    assert scalars(runner)['gradient_cosine/distill.x.P5'] == 0.0
    model = Toy(dict(loss_x=PullLoss([10.0, -0.5])))
    hook = HOOKS.build(dict(type='mmrazor.GradientShareHook', share=0.2))
    assert step(model, hook, begin(model, hook)).tolist() == pytest.approx([4.0, 3.0])


def test_shares_by_feature_and_the_names_of_the_loss():
    model = Toy(dict(loss_x=PullLoss([10.0, -0.5], names=True)))
    hook = build(share=0.5)  # of the stages, as of a DPKLoss
    assert step(model, hook, begin(model, hook)).tolist() == pytest.approx([13.0, 2.0])
    model = Toy(dict(loss_x=PullLoss([10.0, -0.5], names=True)))
    hook = build(share={'feats[0]': 1.0, 'P5': 0.25})
    assert step(model, hook, begin(model, hook)).tolist() == pytest.approx([6.0, 3.0])


def test_averages_over_measurements_at_the_interval():
    loss = PullLoss([1.0, 1.0])
    model, hook = Toy(dict(loss_x=loss)), build(share=1.0, interval=2, momentum=0.75)
    runner = begin(model, hook)
    weights = []
    for pull in (1.0, 5.0, 3.0):  # the second one is not measured
        loss.pulls = [pull, pull]
        gradient = step(model, hook, runner)
        weights.append((gradient[0].item() - 3) / pull)
    # of the pulls 1 and 3 the weighted geometric mean, 3^0.25
    assert weights == pytest.approx([3.0, 3.0, 3 / 3**0.25], rel=1e-5)


def test_a_large_first_gradient_is_forgotten_soon():
    loss = PullLoss([100.0, 100.0])
    model, hook = Toy(dict(loss_x=loss)), build(share=0.5, interval=1)
    runner = begin(model, hook)
    shares = []
    for pull in (100.0, *[1.0] * 6):
        loss.pulls = [pull, pull]
        shares.append((step(model, hook, runner)[0].item() - 3) / 3)
    # of the task's 3: a hundredth to the power 1/2, 1/4, ... is left of it
    assert shares == pytest.approx([0.5 * 0.01 ** (0.5**k if k else 0) for k in range(7)], rel=1e-4)


def test_a_batch_without_a_gradient_of_the_task_is_left_out():
    hook = build(share=1.0, reference='feature')
    for task, own in ((0.0, 4.0), (9.0, 4.0), (0.0, 4.0)):
        hook._average('P5', FeatureGradient(*map(torch.tensor, (task, own, 0.0, 1.0))))
    assert hook.averages['P5'] == pytest.approx((9.0, 4.0))


def test_the_weight_is_limited():
    model, hook = Toy(dict(loss_x=PullLoss([1e-3, 1.0]))), build(share=1.0, max_weight=7.0)
    gradient = step(model, hook, begin(model, hook))
    assert gradient.tolist() == pytest.approx([3 + 7e-3, 8.0])


def test_a_resumed_run_goes_on_with_the_averages():
    loss = PullLoss([1.0, 1.0])
    model, hook = Toy(dict(loss_x=loss)), build(share=1.0, interval=5)
    runner = begin(model, hook)
    step(model, hook, runner)
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    checkpoint = torch.load(_saved(checkpoint), weights_only=True)
    again, loss.pulls = build(share=1.0, interval=5), [100.0, 100.0]
    resumed = runner_of(model, [again], resume=True)
    again.before_run(resumed)
    again.after_load_checkpoint(resumed, checkpoint)
    again.before_train(resumed)
    resumed.iter = 1  # not measured
    assert step(model, again, resumed).tolist() == pytest.approx([3 + 300.0, 4 + 400.0])
    fresh = build(share=1.0)
    fresh.before_run(runner_of(model, [fresh]))
    fresh.after_load_checkpoint(runner_of(model, [fresh]), checkpoint)  # load_from
    assert fresh.averages == {}


def test_a_run_that_is_resumed_with_a_share_for_one_feature():
    model, hook = Toy(dict(loss_x=PullLoss([1.0, 1.0]))), build(share=1.0)
    runner = begin(model, hook)
    step(model, hook, runner)
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    again = build(share={'feats[1]': 0.5}, interval=5)
    model = Toy(dict(loss_x=PullLoss([1.0, 1.0])))
    resumed = runner_of(model, [again], resume=True)
    again.before_run(resumed)
    again.after_load_checkpoint(resumed, checkpoint)
    again.before_train(resumed)
    resumed.iter = 1  # not measured
    # half of the task's 4 on the one, the loss as it is on the other
    assert step(model, again, resumed).tolist() == pytest.approx([3 + 1.0, 4 + 2.0])


def test_averages_of_another_reference_are_measured_anew():
    model, hook = Toy(dict(loss_x=PullLoss([1.0, 1.0]))), build(share=1.0)
    runner = begin(model, hook)
    step(model, hook, runner)
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    again = build(share=1.0, reference='all', interval=5)
    resumed = runner_of(model, [again], resume=True)
    resumed.logger = MagicMock()
    again.before_run(resumed)
    again.after_load_checkpoint(resumed, checkpoint)
    assert again.averages == {} and hook.averages
    (said,) = resumed.logger.warning.call_args.args
    of_an_earlier_version = {'gradient_share': {again.loss: hook.averages}}
    assert list(checkpoint) == list(of_an_earlier_version)
    again.after_load_checkpoint(resumed, of_an_earlier_version)
    assert again.averages == hook.averages
    assert "have reference='feature', and this run has 'all'; they are measured anew" in said


def test_a_loss_without_weight_is_refused():
    model, hook = Toy(dict(loss_x=PullLoss([1.0, 1.0], loss_weight=0.0))), build(share=1.0)
    with pytest.raises(UsageError, match='loss_weight of loss_x is 0'):
        begin(model, hook)


def _saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file


def test_without_a_gradient_it_is_measured_again():
    loss = PullLoss([0.0, 0.0])
    model, hook = Toy(dict(loss_x=loss)), build(share=1.0, interval=100)
    runner = begin(model, hook)
    assert step(model, hook, runner).tolist() == pytest.approx([3.0, 4.0])
    assert hook.averages == {}
    loss.pulls = [2.0, 0.0]
    assert step(model, hook, runner).tolist() == pytest.approx([6.0, 4.0])
    loss.pulls = [4.0, 0.0]
    assert step(model, hook, runner).tolist() == pytest.approx([9.0, 4.0])  # weight 1.5 stays


@pytest.mark.parametrize('names', [False, True])
def test_one_feature_with_a_weight_does_not_keep_the_others_from_theirs(names):
    loss = PullLoss([2.0, 0.0], names=names)
    share = {'feats[0]': 1.0, 'P5': 1.0} if names else 1.0
    model, hook = Toy(dict(loss_x=loss)), build(share=share, interval=100)
    runner = begin(model, hook)
    assert step(model, hook, runner).tolist() == pytest.approx([6.0, 4.0])
    loss.pulls = [4.0, 1.0]  # the first has a weight of 1.5, which the interval keeps
    assert step(model, hook, runner).tolist() == pytest.approx([9.0, 8.0])
    loss.pulls = [4.0, 2.0]  # all have one
    assert step(model, hook, runner).tolist() == pytest.approx([9.0, 12.0])


def test_a_feature_that_the_loss_does_not_use_is_not_measured_in_every_iteration():
    model, hook = Toy(dict(loss_x=FirstLoss())), build(share=1.0, interval=100)
    runner = begin(model, hook)
    for _ in range(3):
        assert step(model, hook, runner).tolist() == pytest.approx([6.0, 4.0])
    (log,) = (
        v
        for k, v in runner.message_hub.log_scalars.items()
        if k.endswith('weight/distill.x.feats[0]')
    )
    assert len(log.data[0]) == 1
    assert list(hook.averages) == ['feats[0]'] and not hook._missing()


class FirstLoss(torch.nn.Module):
    """It is given both features, and depends on the first."""

    def forward(self, student_feats, teacher_feats):
        return 2 * student_feats[0].sum()


def test_a_first_measurement_without_a_gradient_of_the_task_is_none():
    model, hook = Toy(dict(loss_x=PullLoss([2.0, 1.0])), tasks=(3.0, 0.0)), build(share=1.0)
    runner = begin(model, hook)
    assert step(model, hook, runner).tolist() == pytest.approx([6.0, 1.0])  # not weighed with 0
    assert list(hook.averages) == ['feats[0]']
    model.tasks = (3.0, 4.0)
    assert step(model, hook, runner).tolist() == pytest.approx([6.0, 8.0])
    # as earlier versions have saved it
    checkpoint = {'gradient_share': {'loss_x': {'feats[0]': [54.0, 24.0], 'feats[1]': [0.0, 6.0]}}}
    again = build(share=1.0)
    resumed = runner_of(model, [again], resume=True)
    again.before_run(resumed)
    again.after_load_checkpoint(resumed, checkpoint)
    assert again.averages == {'feats[0]': (54.0, 24.0)}


def test_a_loss_behind_a_connector_is_refused():
    model, hook = Toy(dict(loss_x=PullLoss([1.0, 1.0]))), build(share=1.0)
    mapping = model.distiller.loss_forward_mappings['loss_x']
    mapping['student_feats']['connector'] = 'conv'
    with pytest.raises(
        UsageError, match="loss_x gets student_feats through the connector 'conv', .* take the conn"
    ):
        begin(model, hook)


def test_a_loss_whose_arguments_have_other_names():
    model, hook = Toy(dict(loss_x=SecondLoss())), build(share=0.5)
    record = dict(recorder='feats', data_idx=1)
    model.distiller.loss_forward_mappings['loss_x'] = dict(
        preds_S=dict(record, from_student=True), preds_T=dict(record, from_student=False)
    )
    assert step(model, hook, begin(model, hook)).tolist() == pytest.approx([3.0, 4 + 2.0])
    assert hook.averages.keys() == {'preds_S'}


class SecondLoss(torch.nn.Module):
    """One of mmrazor's, of the second feature alone."""

    def forward(self, preds_S, preds_T):
        return 10 * preds_S.sum()


def test_a_measurement_that_is_not_finite_is_left_out():
    model, hook = Toy(dict(loss_x=PullLoss([1.0, 1.0]))), build(share=1.0, interval=1, momentum=0.0)
    runner = begin(model, hook)
    step(model, hook, runner)
    before = dict(hook.averages)
    model.distiller.distill_losses.loss_x.pulls = [math.inf, math.nan]
    step(model, hook, runner)
    assert hook.averages == before


def test_a_forward_pass_that_fails_inside_the_loss_is_no_measurement():
    """With non_finite='skip' the losses are then one that reaches every parameter; the features were given."""
    model, hook = Toy(dict(loss_x=PullLoss([1.0, 1.0]))), build(share=1.0, interval=1)
    runner = begin(model, hook)
    for _ in range(2):  # the first one finds no weight yet
        before = dict(hook.averages)
        model(INPUTS)
        assert hook._gate.seen
        model.parse_losses({'loss_forward': model.student.w.sum() * math.nan})
        hook.after_train_iter(runner, runner.iter)
        assert hook.averages == before
        assert step(model, hook, runner).tolist() == pytest.approx([6.0, 8.0])


def test_two_losses_have_a_hook_each():
    model = Toy(dict(loss_x=PullLoss([1.0, 1.0]), loss_y=PullLoss([7.0, 7.0])))
    with pytest.raises(UsageError, match='loss has to be named, one of loss_x, loss_y'):
        build(share=1.0).before_run(runner_of(model))
    hooks = [build(share=1.0, loss='loss_x'), build(share=0.5, loss='loss_y')]
    runner = runner_of(model, hooks)
    for hook in hooks:
        hook.before_run(runner)
        hook.before_train(runner)
    assert step(model, hooks[0], runner).tolist() == pytest.approx([3 * 2.5, 4 * 2.5])
    twice = [build(share=1.0, loss='loss_x'), build(share=0.5, loss='loss_x')]
    with pytest.raises(UsageError, match='two hooks weigh loss_x'):
        twice[0].before_run(runner_of(model, twice))


def test_ends_with_the_distillation_and_the_training():
    model, hook = Toy(dict(loss_x=PullLoss([1.0, 1.0]))), build(share=1.0)
    runner = begin(model, hook)
    model.distillation_stopped = True
    step(model, hook, runner)
    assert hook.averages == {}
    hook.after_train(runner)
    assert 'parse_losses' not in vars(model)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(share=0.0), 'share must be a finite number > 0, but is 0.0'),
        (dict(share='1'), "share must be a finite number > 0, but is '1'"),
        (dict(share={}), 'share is empty'),
        (dict(share=dict(P4=-1.0)), 'share of P4 must be a finite number > 0'),
        (dict(share=1.0, interval=0), 'interval must be a whole number of at least 1'),
        (dict(share=1.0, momentum=1.0), r'momentum must be in \[0, 1\)'),
        (dict(share=1.0, max_weight=math.inf), 'max_weight must be a finite number > 0'),
        (dict(share=1.0, reference='task'), "reference must be one of all, feature, but is 'task'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(UsageError, match=message):
        build(**kwargs)


def test_what_is_not_there_is_named():
    model = Toy(dict(loss_x=PullLoss([1.0, 1.0])))
    with pytest.raises(UsageError, match="loss is 'los_x', but distill_losses has loss_x; did you"):
        build(share=1.0, loss='los_x').before_run(runner_of(model))
    with pytest.raises(UsageError, match='features of a DPKDistiller, but the model has no distil'):
        build(share=1.0).before_run(runner_of(torch.nn.Linear(1, 1)))
    hook = build(share=dict(P7=1.0))
    runner = begin(model, hook)
    with pytest.raises(
        UsageError, match=r"share names the feature 'P7', but .* are feats\[0\], feats\[1\]"
    ):
        step(model, hook, runner)
    model.calculate_student_loss = False
    with pytest.raises(UsageError, match='calculate_student_loss is False'):
        build(share=1.0).before_run(runner_of(model))


def test_a_feature_that_the_student_does_not_use():
    model = Toy(dict(loss_x=PullLoss([1.0, 1.0])))
    loss, hook = model.forward, build(share=1.0)
    runner = begin(model, hook)

    def without_task(inputs):
        losses = loss(inputs)
        losses['student.loss_cls'] = model.student.w.sum()
        return losses

    model.forward = without_task
    with pytest.raises(UsageError, match=r'do not depend on the feature feats\[0\] of loss_x'):
        step(model, hook, runner)


def test_features_without_a_gradient_are_refused():
    model, hook = Toy(dict(loss_x=PullLoss([1.0, 1.0]))), build(share=1.0)
    runner = begin(model, hook)
    model.student.w.requires_grad_(False)
    with pytest.raises(UsageError, match='loss_x is given no feature of the student that has a'):
        step(model, hook, runner)


def test_all_ranks_have_one_weight(tmp_path):
    logs = run_ranks(_measure_on_a_rank, str(tmp_path / 'store'), folder=tmp_path)
    weights = [line for log in logs for line in log.splitlines() if line.startswith('weight')]
    # squares of the distillation's gradient: 6 * 1 and 6 * 9, whose mean is 6 * 5; the task's 6 * 9
    assert len(weights) == 2
    for line in weights:
        assert float(line.split()[1]) == pytest.approx(3 / math.sqrt(5), rel=1e-5)


def _measure_on_a_rank(rank, store):
    import torch.distributed as dist

    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    # the second feature has no weight, so that it is measured between the intervals, too
    model, hook = Toy(dict(loss_x=PullLoss([1.0 + 2 * rank, 0.0]))), build(share=1.0)
    runner = begin(model, hook)
    step(model, hook, runner)
    print('weight', model.distiller.gate('loss_x').factors['feats[0]'])
    # a forward pass that fails on one rank leaves the weights of both, also where it fails inside the loss
    for inside, iteration in ((False, 20), (True, 20), (False, 21), (True, 21)):
        runner.iter = iteration
        before = dict(hook.averages)
        if rank:
            model.distiller.gate('loss_x').clear()
            if inside:
                model(INPUTS)
            model.parse_losses({'loss_forward': model.student.w.sum()})
        else:
            step(model, hook, runner)
        assert hook.averages == before
    dist.destroy_process_group()
