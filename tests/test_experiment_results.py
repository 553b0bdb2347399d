"""The committed results of experiments: what the README shows is what they say."""

import json
from pathlib import Path

import numpy as np
import pytest

from tools.experiments.comparison_report import comparison_rows
from tools.experiments.grid import load_grid
from tools.experiments.pages import REFERENCES, report_body
from tools.experiments.results import read_results

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'configs' / 'experiments'
ALL = sorted((FOLDER / 'results').glob('*.jsonl'))
# of tools/experiments/compare.py, which composes its grid
COMPARISONS = [file for file in ALL if file.stem.startswith('compare_')]
FILES = [file for file in ALL if file not in COMPARISONS]

#: Option -> as it was called when the results were made, which say what was run.
MOVED_OPTIONS = {'default_hooks.mask_ratio.one_step_late': 'custom_hooks.0.one_step_late'}


def test_there_are_results():
    assert FILES


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_results_are_of_the_grid_and_name_no_machine(file):
    grid = load_grid(ROOT / 'tools' / 'experiments' / 'grids' / f'{file.stem}.py')
    for result in read_results(file):
        entry = grid[result['entry']]
        assert (result['method'], result['seed']) == (entry.method, entry.seed)
        options = json.loads(json.dumps({**grid.options, **entry.options}))
        options = {MOVED_OPTIONS.get(key, key): value for key, value in options.items()}
        if options.get('model.inherit', 0) is None:
            del options['model.inherit']  # what the configs said when these were run
        assert result['options'] == options
        assert result['config'] == entry.config
        # every number comes from committed code
        assert result['commit'] and not result['commit'].endswith('-dirty')
        assert not Path(result['checkpoint']).is_absolute()


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_pages_show_the_results(file):
    results = read_results(file)
    # the pictures' lines differ by the place of the page
    tables = report_body(results, REFERENCES).rsplit('\n\n', 1)[0].rstrip()
    pages = [(file.with_suffix('.md')).read_text(encoding='utf-8')]
    readme = (FOLDER / 'README.md').read_text(encoding='utf-8')
    if f'<!-- report {file.stem} -->' in readme:
        pages.append(readme)
    for page in pages:
        assert tables in page
        for picture in (FOLDER / 'results').glob(f'{file.stem}_*.png'):
            # bccd_faster_rcnn_weights is another grid than bccd_faster_rcnn
            if picture.stem.removeprefix(f'{file.stem}_') in ('teachers', 'settings', 'curves'):
                assert picture.name in page


@pytest.mark.parametrize('file', COMPARISONS, ids=lambda file: file.stem)
def test_the_table_of_a_comparison_is_made_of_its_results(file):
    results = read_results(file)
    for result in results:
        assert result['commit'] and not result['commit'].endswith('-dirty')
        assert result['config'].startswith('configs/')
        assert not Path(result['checkpoint']).is_absolute()
    shown = json.loads(file.with_suffix('.json').read_text(encoding='utf-8'))
    # without what was measured of the gradients
    rows = json.loads(json.dumps(comparison_rows(results, {})))
    assert [row['scores'] for row in rows] == [row['scores'] for row in shown]
    assert [row['minus_baseline'] for row in rows] == [row['minus_baseline'] for row in shown]
    page = file.with_suffix('.md').read_text(encoding='utf-8')
    for row in shown:
        assert f'| {row["title"]} |' in page
        assert f'{np.mean([*row["scores"]["test"].values()]):.2f}' in page
