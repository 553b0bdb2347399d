import json
import math
import sys

import pytest

from dpk_mm.analysis.training_curves import Scalars
from dpk_mm.errors import UsageError
from tools.experiments import gains_report
from tools.experiments.gains import collect, gains_table, measures
from tools.experiments.tables import teachers_table


def scalars():
    """Nine iterations, of which each third has values of its own."""
    return Scalars(
        [
            {
                'iter': i,
                'gradient_share/distill.dpk.P4': 0.1 * i,
                'gradient_share/distill.fgd.feats[2]': 100.0,
                'gradient_share/distill.fgd.feats[0]': 7.0,
                'gradient_cosine/distill.dpk.P4': -0.5,
                'gradient_cosine/distill.dpk': 9.0,
                'feature_distance/feats[0]': 2.0,
                'hybrid_error/P4': 1.0 / i,
                'loss': 1e9,
            }
            for i in range(1, 10)
        ],
        [],
    )


def test_means_of_the_first_and_the_last_third():
    found = measures(scalars(), ['P2', 'P3', 'P4', 'P5'])
    assert found['share']['P4'] == pytest.approx([0.2, 0.8])  # of DPK, not of FGD on the same level
    assert found['share']['P2'] == [7.0, 7.0]
    assert found['cosine'] == {'P4': [-0.5, -0.5]}  # that of the whole student is of no level
    assert found['cosine']['P4'] == [-0.5, -0.5]
    assert found['distance'] == {'P2': [2.0, 2.0]}
    assert found['hybrid']['P4'] == pytest.approx(
        [(1 + 1 / 2 + 1 / 3) / 3, (1 / 7 + 1 / 8 + 1 / 9) / 3]
    )
    assert measures(Scalars([], [])) == {}


def test_what_is_not_finite_is_left_out():
    train = scalars().train
    for record in train[1:3]:
        record['gradient_share/distill.dpk.P4'] = float('inf')
    for record in train[6:]:
        record['hybrid_error/P4'] = float('nan')
    found = measures(Scalars(train, []))
    assert found['share']['P4'] == pytest.approx([0.1, 0.8])
    assert found['hybrid']['P4'] == pytest.approx([(1 + 1 / 2 + 1 / 3) / 3, math.nan], nan_ok=True)


def result(method, seed, score, **more):
    return dict(
        entry=f'{method}-s{seed}',
        method=method,
        seed=seed,
        label='',
        teacher='width 32',
        teacher_scores=None,
        setting={},
        metric='coco/bbox_mAP',
        scores=dict(val=score, test=score + 0.01),
        seconds=1.0,
        **more,
    )


def test_a_line_for_each_row(tmp_path):
    folder = tmp_path / 'dpk-s0' / 'time' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(
        ''.join(json.dumps(line) + '\n' for line in scalars().train)
    )
    results = [result('fgd', seed, 0.2 + 0.01 * seed) for seed in (0, 1)]
    results += [result('dpk', seed, 0.22 + 0.01 * seed) for seed in (0, 1)]
    collected = collect(results, tmp_path, ['P2', 'P3', 'P4', 'P5'])
    assert [bool(r['measures']) for r in collected] == [False, False, True, False]
    lines = gains_table(collected, ['fgd', 'other']).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[0] == [
        'row',
        'n',
        'validation',
        'held-out',
        'minus fgd [95 %]',
        'P4: share',
        'P4: cosine',
        'P4: S to T',
        'P4: hybrid to T',
    ]
    assert cells[2][:5] == ['fgd', '2', '20.50 ± 0.71', '21.50 ± 0.71', '-']
    assert cells[3][:5] == ['dpk', '2', '22.50 ± 0.71', '23.50 ± 0.71', '+2.00 [+2.00, +2.00]']
    assert cells[3][5:] == ['0.2, 0.8', '-0.5, -0.5', '-', '0.611, 0.126']
    # two differences of 2 and 3: the interval is 2.5 +- t(n - 1 = 1) / 2, and t is tan(0.49 pi) for 98 %
    collected[-1]['scores']['test'] += 0.01
    found = gains_table(collected, ['fgd'], 0.98).splitlines()
    half = math.tan(0.49 * math.pi) / 2
    assert 'minus fgd [98 %]' in found[0]
    assert f'+2.50 [{2.5 - half:+.2f}, {2.5 + half:+.2f}]' in found[3]
    # the numbers go on without the folders
    assert collect(collected, tmp_path / 'gone') == collected


def test_two_teachers(tmp_path):
    def taught(method, teacher, score_of_teacher, *scores):
        more = dict(teacher=teacher, teacher_scores=dict(test=score_of_teacher))
        return [{**result(method, seed, score), **more} for seed, score in enumerate(scores)]

    results = taught('dpk', 'width 16', 0.3, 0.20, 0.21)
    results += taught('dpk', 'width 32', 0.4, 0.25, 0.28)
    results += taught('fgd', 'width 32', 0.4, 0.25, 0.25)
    results += taught('fgd', 'width 16', 0.3, 0.22, 0.24)
    results += taught('kd', 'width 32', 0.4, 0.1, 0.1)
    lines = teachers_table(results).splitlines()
    assert lines[0] == '| under width 32 (40.00), minus under [95 %] | width 16 (30.00) |'
    # 5 and 7: mean 6, deviation sqrt 2, and t of one degree of freedom is 12.706: 12.706 * sqrt 2 / sqrt 2
    assert lines[2:] == ['| dpk | +6.00 [-6.71, +18.71] |', '| fgd | +2.00 [-10.71, +14.71] |']
    assert teachers_table([r for r in results if r['teacher'] == 'width 32']) == ''
    table = gains_table(results, ['fgd']).splitlines()
    assert [line.split('|')[1:3] for line in table[2:4]] == [
        [' dpk ', ' width 16 '],
        [' dpk ', ' width 32 '],
    ]


def test_a_file_without_results_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / 'results.jsonl').write_text('\n')
    arguments = ['gains_report.py', str(tmp_path / 'results.jsonl'), '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(UsageError, match='results.jsonl holds no results'):
        gains_report.main()


def test_levels_without_a_name_are_asked_for(tmp_path, monkeypatch):
    """A RetinaNet: its neck begins at P3, so that DPK's P4 is feats[1]."""
    for name, logged in (
        ('fgd', {f'gradient_share/distill.fgd.feats[{i}]': 2.0 + i for i in range(3)}),
        ('dpk', {'gradient_share/distill.dpk.P4': 5.0, 'hybrid_error/P4': 1.0}),
    ):
        file = tmp_path / f'{name}-s0' / 'time' / 'vis_data' / 'scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text(''.join(json.dumps({'iter': i, **logged}) + '\n' for i in range(1, 10)))
    lines = [result(name, 0, 0.2, grid='g') for name in ('fgd', 'dpk')]
    (tmp_path / 'results.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))

    def report(*more):
        arguments = ['gains_report.py', str(tmp_path / 'results.jsonl'), '--out', str(tmp_path)]
        monkeypatch.setattr(sys, 'argv', [*arguments, *more])
        gains_report.main()
        rows = (tmp_path / 'g_gains.md').read_text().splitlines()
        cells = {
            r.split('|')[1].strip(): [c.strip() for c in r.split('|')] for r in rows if '|' in r
        }
        return {name: cells[name][cells['row'].index('P4: share')] for name in ('fgd', 'dpk')}

    with pytest.raises(
        UsageError, match=r'fgd-s0 logged feats\[0\], without a name beside P4: .*--levels'
    ):
        report()
    assert report('--levels', 'P3', 'P4', 'P5') == dict(fgd='3, 3', dpk='5, 5')
    assert report('--levels') == dict(fgd='-', dpk='5, 5')
