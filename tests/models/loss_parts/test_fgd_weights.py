import pytest

from dpk_mm.models.loss_parts.fgd_weights import FGD_WEIGHTS, FGDWeights, resolve_weights


@pytest.mark.parametrize(
    ('name', 'values'),
    [
        ('fgd_two_stage', (5e-5, 2.5e-5, 5e-5, 5e-7)),
        ('fgd_one_stage_paper', (0.001, 0.0005, 0.001, 0.000005)),
        ('fgd_one_stage_code', (0.001, 0.0005, 0.0005, 0.000005)),
        ('fgd_anchor_free_paper', (0.0016, 0.0008, 0.008, 0.000008)),
        ('fgd_anchor_free_code', (0.0016, 0.0008, 0.0008, 0.000008)),
        ('dpk_two_stage_text', (0.00005, 0.000025, 0.00005, 5e-7)),
        ('dpk_one_stage_text', (0.002, 0.0005, 0.0005, 0.000005)),
        ('dpk_faster_rcnn_r101_r18_code', (2e-5, 2.5e-5, 2e-5, 2e-7)),
        ('dpk_faster_rcnn_r101_r50_code', (5e-5, 2.5e-5, 5e-5, 5e-7)),
        ('dpk_faster_rcnn_r152_r50_code', (5e-5, 5e-6, 5e-5, 5e-7)),
        ('dpk_retinanet_r101_r18_code', (2e-3, 5e-4, 5e-4, 5e-6)),
        ('dpk_retinanet_r101_r50_code', (2e-3, 2e-4, 3e-4, 5e-6)),
        ('dpk_retinanet_r152_r50_code', (1e-3, 5e-4, 5e-4, 5e-6)),
    ],
)
def test_published_values(name, values):
    assert resolve_weights(name) == FGDWeights(*values)


def test_dict_in_any_order_and_resolved_weights_pass():
    weights = resolve_weights(dict(lam=4, gamma=3, beta=0, alpha=1))
    assert weights == (1.0, 0.0, 3.0, 4.0)
    assert all(isinstance(value, float) for value in weights)
    assert resolve_weights(weights) == weights


def test_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(ValueError, match="did you mean 'fgd_two_stage'") as error:
        resolve_weights('fgd_twostage')
    assert all(name in str(error.value) for name in FGD_WEIGHTS)


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        (dict(alpha=1, beta=1, gamma=1), "'lam' is missing"),
        (dict(alpha=1, beta=1, gamma=1, lam=1, delta=1), "'delta' is unknown"),
        (dict(alpha=1, beta=1, gamma=1, lambda_=1), "'lam' is missing and 'lambda_' is unknown"),
        (dict(alpha=-1e-5, beta=1, gamma=1, lam=1), r"weights\['alpha'\].* is -1e-05"),
        (dict(alpha=1, beta=float('nan'), gamma=1, lam=1), r"weights\['beta'\].* is nan"),
        (dict(alpha=1, beta=1, gamma='5e-4', lam=1), r"weights\['gamma'\].* is '5e-4'"),
        (0.5, 'a name or a dict .* is 0.5'),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        resolve_weights(weights)
