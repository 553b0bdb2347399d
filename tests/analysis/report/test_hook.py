import json

import pytest

from dpk_mm.analysis.report import ReportHook, load_run
from tests.helpers.report_runs import Page, plain, write_run
from tests.helpers.small_runs import build, classifier, distilled, runner


@pytest.mark.parametrize('own', [(), (dict(type='EMAHook'),)], ids=['alone', 'with custom hooks'])
def test_a_training_ends_with_its_page(tmp_path, own):
    write_run(tmp_path / 'alone', plain(), distils=False)
    hook = ReportHook(tmp_path / 'alone')
    run = runner(build(distilled(classifier(), classifier(16))), tmp_path / 'run', *own)
    run.register_hook(hook)
    run.train()
    record = json.loads((tmp_path / 'run' / 'report.json').read_text())
    assert record['iterations'] == 4 and record['seconds'] > 0 and record['missing'] == []
    page = Page((tmp_path / 'run' / 'report.html').read_text())
    assert page.texts['h2'] == ['Models', 'Curves', 'baseline', 'run']
    assert {'teacher', 'baseline', 'run'} <= set(page.texts['th'])
    assert load_run(tmp_path / 'run').metrics('acc') == [(1.0, 1.0), (2.0, 2.0)]
    assert load_run(tmp_path / 'run').record == record


def test_a_page_that_fails_is_a_warning(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('the disk is full')

    monkeypatch.setattr('dpk_mm.analysis.report.hook.write_page', fail)
    said = []
    hook = ReportHook()
    run = runner(build(classifier()), tmp_path)
    run.register_hook(hook)
    monkeypatch.setattr(run.logger, 'warning', said.append)
    run.train()
    said = [line for line in said if 'report.html' in str(line)]
    assert len(said) == 1
    assert (
        'could not be written (OSError: the disk is full); the training itself is complete'
        in (said[0])
    )
    assert not (tmp_path / 'report.html').exists()


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr('dpk_mm.analysis.report.hook.is_main_process', lambda: False)
    run = runner(build(classifier()), tmp_path, ReportHook())
    run.train()
    assert not list(tmp_path.glob('report.*'))
