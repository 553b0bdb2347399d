from tools.benchmark_suites.pair_sizes import pair_name, pair_sizes, pair_table
from tools.benchmark_suites.rows import Row

NAME = 'mini/fashion_cnn_dpk'


def test_a_table_has_the_modules_of_all_stages_of_each_pair():
    def note(parameters, flops):
        return f'{parameters} M parameters, {flops} GFLOPs an image'

    rows = [
        Row('pair_sizes', 'a/b: student step + teacher forward (floor)', 1.0),
        Row('pair_sizes', 'a/b: loss_kd only', 1.0, ratio=1.0),
        Row('pair_sizes', 'a/b: DPK large, last', 1.5, ratio=1.5, note=note('3.00', '0.30')),
        Row('pair_sizes', 'a/b: DPK large, p and last', 2, ratio=2.0, note=note('5.00', '0.50')),
        Row('pair_sizes', 'a/b: DPK small, last', 1.1, ratio=1.1, note=note('1.00', '0.10')),
        Row('pair_sizes', 'a/b: DPK small, p and last', 1.2, ratio=1.25, note=note('2.00', '0.20')),
    ]
    assert pair_table(rows).splitlines()[2:] == [
        '| a/b | 5.00 M | 0.50 G | 2.00 | 2.00 M | 0.20 G | 1.25 |'
    ]


def test_every_config_is_measured_against_its_own_floor():
    seen = []
    rows = pair_sizes(
        ['configs/mini/fashion_cnn_dpk.py'],
        rounds=1,
        done=lambda found: seen.append(len(found)),
        device='cpu',
        batch_size=4,
        image_size=(28, 28),
        warmup=0,
        with_memory=False,
    )
    assert seen == [len(rows)]
    assert pair_name('configs/mini/fashion_cnn_dpk.py') == NAME
    assert all(row.case.startswith(f'{NAME}: ') for row in rows)
    assert {row.against for row in rows[1:]} == {rows[0].case}
    (line,) = pair_table(rows).splitlines()[2:]
    assert line.startswith(f'| {NAME} | ')
