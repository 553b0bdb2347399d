import numpy as np
import pytest

from dpk_mm.analysis.calibration import expected_calibration_error


def slow(confidences, correct, bins):
    """The definition, bin by bin."""
    n, total = len(confidences), 0.0
    for b in range(1, bins + 1):
        inside = [
            i
            for i, p in enumerate(confidences)
            if (b - 1) / bins < p <= b / bins or (b == 1 and p == 0)
        ]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            total += len(inside) / n * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize('bins', [1, 10, 15])
def test_against_the_definition(bins):
    random = np.random.default_rng(bins)
    confidences = random.uniform(0, 1, 200)
    confidences[:3] = 0.0, 1.0, 0.5
    correct = random.uniform(0, 1, 200) < confidences**2
    found = expected_calibration_error(confidences, correct, bins)
    assert found == pytest.approx(slow(list(confidences), list(correct), bins), abs=1e-12)


def test_known_values():
    # always sure, right three times of four
    assert expected_calibration_error([1.0] * 4, [True, True, True, False]) == pytest.approx(0.25)
    # right as often as it says
    assert expected_calibration_error([0.5] * 2, [True, False]) == 0
    # what two bins have to say against each other does not cancel
    assert expected_calibration_error([0.2, 0.8], [True, False]) == pytest.approx(0.8)
    assert expected_calibration_error([0.2, 0.8], [True, False], bins=1) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ('confidences', 'correct', 'message'),
    [
        ([], [], 'at least 1'),
        ([0.5], [True, False], 'of one length'),
        ([1.5], [True], r'must be in \[0, 1\], but one is 1.5'),
        ([float('nan')], [True], 'one is nan'),
    ],
)
def test_what_it_refuses(confidences, correct, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(confidences, correct)
