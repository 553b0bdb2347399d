import pytest

from dpk_mm.engine.hooks.loss_names import monitor_name


@pytest.mark.parametrize(
    ('name', 'shown'),
    [
        ('distill.loss_feat', 'distill.feat'),
        ('distill.dkd_loss', 'distill.dkd'),
        ('distill.loss', 'distill'),
        ('distill.loss_dpk.foreground', 'distill.dpk.foreground'),
    ],
)
def test_monitored_names_do_not_count_as_losses(name, shown):
    assert monitor_name(name) == shown
