"""The parts of the page, as a browser would find them."""

import html
import json
import re
import shutil
import struct
import subprocess

import pytest

from dpk_mm.analysis.report.page import render_page, write_page
from dpk_mm.analysis.report.runs import load_run
from dpk_mm.errors import UsageError
from tests.helpers.report_runs import Page, distillation, plain, write_run

BROWSER = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)


@pytest.fixture
def runs(tmp_path):
    """A teacher's, a baseline's and a distillation's run."""
    teacher = plain(command='python tools/train.py teacher.py')
    teacher['models'][0]['parameters'] = 4_000_000
    folder = write_run(tmp_path / 'dpk', distillation(alarms=['The student learns nothing.']))
    (folder / 'chosen.json').write_text(json.dumps([['levels', 'P4, P5', 'equal strides']]))
    write_run(tmp_path / 'big', teacher, (0.3, 0.32), distils=False)
    write_run(tmp_path / 'alone', plain(), (0.1, 0.15), distils=False)
    return [load_run(tmp_path / name) for name in ('big', 'alone', 'dpk')]


def table(text, caption):
    """The cells of the table with this caption, row by row."""
    part = text[text.index(f'<caption><span>{caption}') :]
    body = part[: part.index('</table>')]
    rows = re.findall(r'<tr>(.*?)</tr>', body, re.DOTALL)
    return [re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', row, re.DOTALL) for row in rows]


def test_a_distillation_alone(runs):
    text = render_page([runs[2]])
    page = Page(text)
    assert page.texts['title'] == ['Training report: dpk']
    headings = page.texts['h2']
    assert headings == ['Alarms', 'Models', 'Curves', 'This training']
    assert table(text, 'Last and best') == [
        [
            'model',
            'coco/bbox_mAP (0 to 1)',
            'best',
            'parameters (million)',
            'speed (ms/image)',
            'training time',
        ],
        ['teacher', '0.32', '–', '4', '40', '–'],
        ['student', '0.2', '0.25 (epoch 2)', '1', '12.5', '2 min 05 s'],
    ]
    assert page.texts['h3'] == [
        'Validation',
        "The task's own loss",
        'Losses of the distillation',
        'Gradient share of the distillation',
        'Mask ratio',
        'Similarity of student and teacher',
        'Example detections',
        'Chosen automatically',
        'Command and environment',
    ]
    assert table(text, 'Number of boxes')[1:] == [['1', '3', '3', '2'], ['2', '1', '2', '0']]
    assert table(text, 'What the config left open')[1] == [
        'levels',
        'P4, P5',
        'equal strides',
    ]
    environment = dict(map(tuple, table(text, 'What it ran on')[1:]))
    assert environment['length'] == '3 epochs, 60 iterations'
    assert environment['device'] == 'CPU: a &lt;fast&gt; one, 2 cores'
    assert environment['teacher from'] == 'work_dirs/teacher/epoch_8.pth'
    assert 'python tools/train.py configs/mini/faster_rcnn_dpk.py' in page.texts['code']
    assert 'lr = 0.01 # <rate>' in page.texts['code']
    assert 'The student learns nothing.' in page.texts['p']
    assert page.texts['p'][0] == (
        'The student of dpk reached 0.2 in coco/bbox_mAP (0 to 1); its teacher has 0.32. It has 25% of the '
        'parameters of the teacher.'
    )


def test_several_runs_side_by_side(runs):
    text = render_page(runs, baseline='alone', title='All')
    page = Page(text)
    assert page.texts['title'] == ['All']
    rows = table(text, 'Last and best')
    assert rows[0][:5] == [
        'model',
        'role',
        'coco/bbox_mAP (0 to 1)',
        'best',
        'against alone (points)',
    ]
    # the teacher has a training of its own and is not shown twice
    assert [row[:5] for row in rows[1:]] == [
        ['big', 'model', '0.32', '0.32 (epoch 2)', '+17.00'],
        ['alone', 'baseline', '0.15', '0.15 (epoch 2)', '–'],
        ['dpk', 'student', '0.2', '0.25 (epoch 2)', '+5.00'],
    ]
    assert page.texts['h2'][-3:] == ['big', 'alone', 'dpk']
    assert '+5.00 points against the baseline' in page.texts['p'][0]
    assert 'A point is a hundredth of the metric.' in page.texts['p']
    metrics = table(text, 'All metrics')
    assert metrics == [
        ['metric', 'big', 'alone', 'teacher of dpk', 'dpk'],
        ['coco/bbox_mAP (0 to 1)', '0.32', '0.15', '0.32', '0.2'],
        ['coco/bbox_mAP_50 (0 to 1)', '–', '–', '0.55', '–'],
    ]


def test_a_metric_of_an_unknown_unit_has_no_points(tmp_path):
    for name, value in (('a', 0.5), ('b', 0.5125)):
        folder = write_run(tmp_path / name, plain(metric='f1'), (), distils=False)
        with open(folder / 'stamp' / 'vis_data' / 'scalars.json', 'a') as file:
            file.write(f'{{"step": 1, "f1": {value}}}\n')
    text = render_page([load_run(tmp_path / name) for name in 'ab'], baseline='a')
    rows = table(text, 'Last and best')
    column = rows[0].index('against a (difference)')
    assert [row[column] for row in rows[1:]] == ['–', '+0.0125']
    sentence = Page(text).texts['p'][0]
    assert '+0.0125 against the baseline' in sentence and 'points' not in text


def test_a_baseline_of_the_size_of_the_teacher_does_not_hide_it(tmp_path):
    baseline = plain()
    baseline['models'][0]['parameters'] = 4_000_000
    write_run(tmp_path / 'a', baseline, (0.2,), distils=False)
    write_run(tmp_path / 'b', distillation())
    text = render_page([load_run(tmp_path / name) for name in 'ab'], baseline='a')
    rows = table(text, 'Last and best')[1:]
    assert [row[0] for row in rows] == ['teacher', 'a', 'b']


def test_confusions_of_a_classifier(tmp_path):
    examples = dict(
        kind='confusions',
        images=200,
        right=dict(teacher=180, student=150),
        rows=[dict(truth='shirt', predicted='coat', counts=dict(teacher=3, student=9))],
    )
    run = load_run(write_run(tmp_path / 'kd', distillation(examples=examples)))
    text = render_page([run])
    assert 'the teacher 180 (90.0 %) and the student 150 (75.0 %) are right' in text
    assert table(text, 'Images of a class')[1] == ['shirt', 'coat', '3', '9']


def test_a_folder_without_a_record_says_what_is_not_known(tmp_path):
    run = load_run(write_run(tmp_path / 'killed', None))
    page = Page(render_page([run]))
    assert any('has no report.json' in text for text in page.texts['p'])
    assert 'Validation' in page.texts['h3']


def test_the_best_validation_is_a_number(tmp_path):
    run = load_run(write_run(tmp_path / 'a', plain(), (float('nan'), 0.1, 0.2, float('nan'))))
    rows = table(render_page([run]), 'Last and best')
    assert '0.2 (epoch 3)' in rows[1]


def test_without_validation(tmp_path):
    run = load_run(write_run(tmp_path / 'a', plain(missing=['speed: none']), metrics=()))
    page = Page(render_page([run]))
    assert page.texts['p'][0] == 'No validation was logged, so there is no metric.'
    assert 'Not available: speed: none' in page.texts['p']


def test_nothing_is_loaded_from_elsewhere(runs):
    text = render_page(runs)
    page = Page(text)
    assert not {'script', 'link', 'iframe', 'object', 'embed'} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name in ('src', 'href', 'xlink:href', 'srcset', 'action'):
            value = attributes.get(name)
            assert value is None or value.startswith(('data:', '#'))
        assert not any(name.startswith('on') for name in attributes)
    for style in page.texts['style']:
        assert '@import' not in style and 'http' not in style


def test_accessible(runs):
    page = Page(render_page(runs))
    assert page.all('html')[0]['lang'] == 'en'
    assert len(page.all('h1')) == len(page.all('main')) == 1
    assert all(attributes['alt'] for attributes in page.all('img'))
    assert len(page.all('img')) == 1
    assert all(attributes['scope'] in ('row', 'col') for attributes in page.all('th'))
    assert len(page.all('caption')) == len(page.all('table'))
    assert all(svg['aria-hidden'] == 'true' for svg in page.all('svg'))
    ids = [attributes['id'] for _, attributes in page.elements if attributes.get('id')]
    assert len(set(ids)) == len(ids)
    for _, attributes in page.elements:
        assert attributes.get('aria-labelledby', ids[0]) in ids
    # what scrolls can be reached with the keyboard
    scrolling = [a for _, a in page.elements if 'wide' in (a.get('class') or '').split()]
    assert scrolling and all(a['tabindex'] == '0' and a['aria-label'] for a in scrolling)


def test_light_and_dark(runs):
    (style,) = Page(render_page(runs)).texts['style'][:1]
    assert 'prefers-color-scheme: dark' in style


def test_names_are_checked(runs, tmp_path):
    with pytest.raises(UsageError, match='give at least one work folder'):
        render_page([])
    with pytest.raises(UsageError, match='Two runs are called dpk: write NAME=WORK_DIR'):
        render_page([runs[2], runs[2]])
    with pytest.raises(UsageError, match='The baseline alon is none of the runs'):
        render_page(runs, baseline='alon')
    write_page(runs, tmp_path / 'new' / 'page.html')
    assert (tmp_path / 'new' / 'page.html').read_text() == render_page(runs)


# In a browser.


def browse(tmp_path, *arguments):
    command = [BROWSER, '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars']
    own = f'--user-data-dir={tmp_path / "browser"}'
    done = subprocess.run(
        [*command, own, '--virtual-time-budget=2000', *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason='there is no chromium')
@pytest.mark.parametrize('width', [360, 1200])
def test_in_a_browser_nothing_is_wider_than_the_window(runs, tmp_path, width):
    inner = html.escape(render_page(runs, baseline='alone'))
    count = "f.contentDocument.querySelectorAll('svg').length"
    visible = "[...f.contentDocument.querySelectorAll('svg')].every(s => s.clientWidth > 200)"
    (tmp_path / 'outer.html').write_text(
        f'<iframe id="f" style="width:{width}px;height:900px;border:0" srcdoc="{inner}"></iframe><script>'
        'onload = () => { document.body.dataset.found = [f.contentDocument.documentElement.scrollWidth,'
        f' {count}, {visible}].join(" ") }}</script>'
    )
    dom = browse(tmp_path, '--dump-dom', f'file://{tmp_path}/outer.html')
    assert re.search(r'data-found="([^"]*)"', dom)[1] == f'{width} 6 true'


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason='there is no chromium')
def test_a_screenshot_shows_the_page(runs, tmp_path):
    import cv2

    write_page(runs, tmp_path / 'page.html', baseline='alone')
    arguments = ('--window-size=1000,1600', f'--screenshot={tmp_path / "page.png"}')
    browse(tmp_path, *arguments, f'file://{tmp_path}/page.html')
    content = (tmp_path / 'page.png').read_bytes()
    assert struct.unpack('>II', content[16:24]) == (1000, 1600)
    image = cv2.imread(str(tmp_path / 'page.png'))
    # a blue curve, an orange one, and text on a light ground
    for colour in ((0xB2, 0x72, 0x00), (0x00, 0x5E, 0xD5)):
        assert (abs(image.astype(int) - colour).max(axis=2) < 12).sum() > 50
    assert (image.min(axis=2) > 230).mean() > 0.5


def test_names_that_say_what_they_are(tmp_path):
    write_run(tmp_path / 'teacher', plain(), (0.3, 0.32), distils=False)
    write_run(tmp_path / 'student', distillation())
    text = render_page([load_run(tmp_path / name) for name in ('teacher', 'student')])
    rows = table(text, 'Last and best')
    assert 'role' not in rows[0]  # it would say the same as the names
    assert {row[0] for row in rows[1:]} == {'teacher', 'student'}
    assert 'The student reached 0.2 in coco/bbox_mAP' in text
