"""Every module has a test file of its name, at its place."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# modules whose tests stand in another file, and why
ELSEWHERE = {
    'version.py': ('test_mirror.py', 'one string'),
    'modules/other_transforms.py': ('modules/test_transforms.py', 'one contract for all of them'),
    'modules/hybrid_transform.py': ('modules/test_transforms.py', 'the base of those'),
    'models/distillers/records.py': (
        'models/distillers/test_dpk_distiller.py',
        'what a distiller makes of them',
    ),
    'models/loss_parts/stage.py': ('models/losses/test_dpk_loss.py', "a stage is the loss's own"),
    'models/loss_parts/level.py': ('models/losses/test_fgd_loss.py', "a level is the loss's own"),
    'models/loss_parts/distill_loss.py': (
        'models/losses/test_kd_loss.py',
        'the contract is checked of the losses',
    ),
    'models/methods/detectors.py': ('models/test_methods.py', 'settings of all methods, by value'),
    'models/methods/dpk.py': ('models/test_methods.py', 'settings of all methods, by value'),
    'models/methods/features.py': (
        'models/test_feature_methods.py',
        'settings of all methods, by value',
    ),
    'models/methods/logits.py': ('models/test_methods.py', 'settings of all methods, by value'),
    'models/methods/relations.py': ('models/test_methods.py', 'settings of all methods, by value'),
    'models/methods/losses.py': ('test_method_configs.py', 'the name of a type'),
    'models/algorithms/after_stop.py': (
        'engine/hooks/test_upstream_hooks.py',
        'the hook that stops a distillation',
    ),
    'engine/hooks/upstream_check_hook.py': (
        'engine/hooks/test_upstream_hooks.py',
        'beside the hooks that it speaks of',
    ),
    'models/teacher/normalisation.py': (
        'models/test_properties_models.py',
        'for any mean, deviation and order of channels',
    ),
    'engine/hooks/replay_hook.py': (
        'engine/runner/test_store_logits.py',
        'in the training that needs it',
    ),
    'checkpoint/distilled.py': (
        'models/algorithms/test_loading_weights.py',
        'weights that an algorithm loads',
    ),
    'analysis/report/template.py': ('analysis/report/test_page.py', 'what the page is made of'),
    'cli/explain/arguments.py': (
        'cli/explain/test_explanation.py',
        'its sentences as explain gives them',
    ),
    'cli/explain/data_files.py': (
        'cli/explain/test_explanation.py',
        'its sentences as explain gives them',
    ),
    'cli/explain/networks.py': (
        'cli/explain/test_explanation.py',
        'its sentences as explain gives them',
    ),
    'cli/explain/unknown_types.py': (
        'cli/explain/test_explanation.py',
        'its sentences as explain gives them',
    ),
    'cli/distill/data_part.py': ('cli/distill/test_own_data.py', 'what the reading of data gives'),
    'cli/distill/request.py': ('cli/distill/test_arguments.py', 'what the options become'),
    'cli/distill/main.py': ('integration/test_distill_command.py', 'the command itself'),
}
# of the repository's tools: their tests are where they go
TOOLS = ('benchmark', 'datasets', 'experiments', 'quickstart')
MODULES = sorted(
    path.relative_to(ROOT / 'dpk_mm').as_posix()
    for path in (ROOT / 'dpk_mm').rglob('*.py')
    if path.name not in ('__init__.py', '__main__.py')
    and path.relative_to(ROOT / 'dpk_mm').parts[0] not in TOOLS
)


def mirror(module: str) -> Path:
    path = Path(module)
    return Path('tests') / path.parent / f'test_{path.stem.lstrip("_")}.py'


@pytest.mark.parametrize('module', MODULES)
def test_a_module_has_a_test_file(module):
    where = mirror(module)
    if module in ELSEWHERE and not (ROOT / where).exists():
        where = Path('tests') / ELSEWHERE[module][0]
    assert (ROOT / where).is_file(), f'{where} is not there'
    assert 'def test_' in (ROOT / where).read_text()


def test_exceptions_are_modules():
    assert set(ELSEWHERE) <= set(MODULES)


def test_version():
    from dpk_mm import __version__

    assert [part.isdigit() for part in __version__.split('.')[:2]] == [True, True]
