"""Draws how alike the stages of students and their teacher are, such as before and after distillation."""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table

from dpk_mm.analysis.feature_similarity import (
    BATCH_SIZE,
    METRICS,
    PARTS,
    SAMPLES,
    StageSimilarity,
    measure_similarity,
)
from dpk_mm.analysis.picture_files import check_picture
from dpk_mm.analysis.run_names import by_name
from dpk_mm.analysis.similarity_plots import plot_similarity
from dpk_mm.cli.errors import readable_errors
from dpk_mm.fileio import write_json_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a distillation of these two networks')
    parser.add_argument(
        'students',
        nargs='+',
        metavar='NAME=CHECKPOINT',
        help='such as baseline=work_dirs/A/student_last.pth dpk=work_dirs/B/epoch_24.pth',
    )
    parser.add_argument('--teacher-ckpt', help="the teacher's checkpoint, in place of the config's")
    parser.add_argument('--out', required=True, help='image to write, e.g. similarity.png')
    parser.add_argument('--json', metavar='FILE', help='write the values, too')
    parser.add_argument('--metric', choices=METRICS, default='cka')
    parser.add_argument(
        '--modules',
        nargs='+',
        metavar='[STUDENT=]TEACHER',
        help='modules to compare, such as backbone.layer4 or neck=fpn (default: the record feats, else the backbones)',
    )
    parser.add_argument('--samples', choices=SAMPLES, default='images', help='of CKA')
    parser.add_argument('--part', choices=PARTS, default='val', help='images (default: val)')
    parser.add_argument('--batches', type=int, default=400, help='at most (default: 400)')
    parser.add_argument('--batch-size', type=int, default=BATCH_SIZE, help='(default: 32)')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--title', default='')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    for student in args.students:
        if '=' not in student:
            parser.error(f'{student} has no name: write NAME=CHECKPOINT')
    if args.metric == 'cosine' and args.samples == 'positions':
        parser.error('--samples positions is of CKA: leave it out, or take --metric cka')
    return args


def print_rows(found: list[StageSimilarity], metric: str, console: Console) -> None:
    table = Table(title=f'{metric} of student and teacher, over {len(found[0].values)} batches')
    table.add_column('student')
    table.add_column('stage')
    for name in ('mean', 'smallest', 'largest'):
        table.add_column(name, justify='right', no_wrap=True)
    for item in found:
        cells = [f'{v:.3f}' for v in (item.mean, min(item.values), max(item.values))]
        table.add_row(item.student, item.stage, *cells)
    console.print(table)


def main() -> None:
    args = parse_args()
    check_picture(args.out)
    pairs = [student.split('=', 1) for student in args.students]
    students = by_name(((name, checkpoint) for name, checkpoint in pairs), 'students')
    modules = None
    if args.modules:
        pairs = [m.split('=', 1) if '=' in m else [m, m] for m in args.modules]
        modules = {'student': [p[0] for p in pairs], 'teacher': [p[1] for p in pairs]}
    found = measure_similarity(
        args.config,
        students,
        args.teacher_ckpt,
        args.metric,
        modules,
        args.samples,
        args.part,
        args.batches,
        args.batch_size,
        args.cfg_options,
        args.device,
    )
    print_rows(found, args.metric, Console())
    if args.json:
        rows = [
            {'student': s.student, 'stage': s.stage, 'mean': s.mean, 'values': s.values}
            for s in found
        ]
        write_json_atomically(
            Path(args.json), {'metric': args.metric, 'batch_size': args.batch_size, 'rows': rows}
        )
    plot_similarity(found, args.out, args.metric, args.title)
    print(args.out)


if __name__ == '__main__':
    with readable_errors('feature_similarity.py'):
        main()
