import pytest

from dpk_mm.compat import mmrazor_joblib


@pytest.mark.parametrize(
    'installed, expected',
    [({'mmrazor'}, True), ({'mmrazor', 'joblib'}, False), (set(), False)],
)
def test_it_is_needed_where_joblib_alone_is_missing(monkeypatch, installed, expected):
    monkeypatch.setattr(mmrazor_joblib, 'is_installed', lambda package: package in installed)
    assert mmrazor_joblib.needed() is expected


def test_it_says_what_to_install():
    with pytest.raises(ModuleNotFoundError, match="run 'pip install joblib'") as caught:
        mmrazor_joblib.apply()
    assert caught.value.name == 'joblib'
