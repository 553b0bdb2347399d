import math

import pytest

from dpk_mm.engine.hooks.alarm_rules import ShareRule, SimilarityRule


def feed(rule, shares, interval=10, start=0):
    return [rule.update(start + interval * i, share) for i, share in enumerate(shares)]


def test_a_low_share_is_found_when_it_lasted_a_pass():
    # passes of 40 iterations, measured each 10: the fourth measurement stands for 30 to 39
    found = feed(ShareRule(0.01, 100, 10, 40), [0.001, 0.004, 0.002, 0.008])
    assert found[:3] == [None] * 3
    side, count, covered, mean = found[3]
    assert (side, count, covered) == ('low', 4, 40)
    assert mean == pytest.approx((0.001 * 0.004 * 0.002 * 0.008) ** 0.25)


def test_one_measurement_between_the_limits_begins_anew():
    rule = ShareRule(0.01, 100, 10, 40)
    assert feed(rule, [0.001, 0.001, 0.001, 0.5, 0.001, 0.001, 0.001]) == [None] * 7
    assert rule.update(70, 0.001)[:3] == ('low', 4, 40)


def test_a_high_share_and_one_without_a_size():
    assert feed(ShareRule(0.01, 100, 10, 30), [150, math.inf, 600])[2] == (
        'high',
        3,
        30,
        pytest.approx(300.0),
    )
    assert feed(ShareRule(0.01, 100, 10, 30), [math.inf] * 3)[2] == ('high', 3, 30, None)
    assert feed(ShareRule(0.01, 100, 10, 30), [0.0] * 3)[2] == ('low', 3, 30, None)


def test_sides_do_not_add_up():
    assert feed(ShareRule(0.01, 100, 10, 30), [0.0, 0.0, 1e6, 1e6, 0.0]) == [None] * 5


def test_a_short_pass_takes_three_measurements():
    found = feed(ShareRule(0.01, 100, 50, 20), [0.001] * 3, interval=50)
    assert found[:2] == [None, None]
    assert found[2][:3] == ('low', 3, 150)
    assert feed(ShareRule(0.01, 100, 50, None), [0.001] * 3, interval=50)[2][:3] == ('low', 3, 150)


def test_limits_themselves_are_well():
    assert feed(ShareRule(0.01, 100, 10, 30), [0.01] * 5) == [None] * 5
    assert feed(ShareRule(0.01, 100, 10, 30), [100] * 5) == [None] * 5


def test_what_does_not_count_is_forgotten():
    rule = ShareRule(0.01, 100, 10, 30)
    feed(rule, [0.001, 0.001])
    rule.forget()
    assert feed(rule, [0.001, 0.001], start=20) == [None, None]
    assert rule.update(40, 0.001)[:3] == ('low', 3, 30)


@pytest.mark.parametrize('cut', range(1, 6))
def test_a_resumed_share_rule_goes_on(cut):
    shares = [0.5, 0.001, 0.002, 0.001, 0.004, 0.001]
    whole = feed(ShareRule(0.01, 100, 10, 40), shares)
    rule = ShareRule(0.01, 100, 10, 40)
    before = feed(rule, shares[:cut])
    resumed = ShareRule(0.01, 100, 10, 40)
    resumed.load_state_dict(rule.state_dict())
    assert before + feed(resumed, shares[cut:], start=10 * cut) == whole
    assert whole[4][1] == 4


def similarities(rule, values, start=0):
    """Passes of four iterations, each with the value of its pass moved by -0.1, 0.1, 0, 0."""
    found = []
    for number, stages in enumerate(values, start):
        for step, moved in enumerate((-0.1, 0.1, 0.0, 0.0)):
            now = {stage: value + moved for stage, value in stages.items()}
            found.append(rule.update(4 * number + step, now))
    return found


def test_similarity_that_does_not_grow_is_found_at_half_of_the_training():
    found = similarities(SimilarityRule(4, 32), [{'P4': 0.3, 'P5': 0.2}] * 4)
    assert found[:-1] == [None] * 15
    assert found[-1] == {'P4': pytest.approx((0.3, 0.3)), 'P5': pytest.approx((0.2, 0.2))}
    # a training of two passes is not judged, one of four from its third
    assert similarities(SimilarityRule(4, 8), [{'P4': 0.3}] * 2) == [None] * 8
    assert similarities(SimilarityRule(4, 16), [{'P4': 0.3}] * 3)[-1]


def test_one_stage_that_grows_is_enough():
    values = [{'P4': 0.3, 'P5': 0.2}, {}, {'P4': 0.1, 'P5': 0.215}]
    assert similarities(SimilarityRule(4, 16), values) == [None] * 12
    values[-1]['P5'] = 0.205
    assert similarities(SimilarityRule(4, 16), values)[-1]


def test_what_is_alike_from_the_start_need_not_grow():
    assert similarities(SimilarityRule(4, 16), [{'P4': 0.95}] * 4) == [None] * 16


def test_without_similarities_nothing_is_found():
    assert similarities(SimilarityRule(4, 16), [{}] * 4) == [None] * 16


@pytest.mark.parametrize('cut', [1, 3, 5, 9, 11])
def test_a_resumed_similarity_rule_goes_on(cut):
    values = [0.3, 0.1, 0.2, 0.2] + [0.4] * 4 + [0.1] * 4
    rule, resumed = SimilarityRule(4, 16), SimilarityRule(4, 16)
    for i in range(cut):
        rule.update(i, {'P4': values[i]})
    resumed.load_state_dict(rule.state_dict())
    for i in range(cut, 11):
        assert resumed.update(i, {'P4': values[i]}) is None
    assert resumed.update(11, {'P4': 0.1}) == {'P4': pytest.approx((0.2, 0.1))}
