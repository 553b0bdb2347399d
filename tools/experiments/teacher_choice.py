"""Measures tools/select_teacher.py and simpler ways to choose a teacher against the grid teacher_choice."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpk_mm.cli.errors import readable_errors
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_text_atomically
from tools.experiments.results import read_results
from tools.experiments.teacher_selection.measure import read_truth, report
from tools.experiments.teacher_selection.selection import read_selection


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', help='results.jsonl of the grid teacher_choice')
    parser.add_argument(
        '--selections',
        nargs='+',
        required=True,
        metavar='STUDENT=FOLDER',
        help="work folder of select_teacher.py for each student, such as 'student width 8=work_dirs/choice_w8'",
    )
    parser.add_argument('--out', type=Path, help='Markdown file')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    truths = read_truth(read_results(args.results))
    selections = {}
    for text in args.selections:
        student, _, folder = text.partition('=')
        if student not in [truth.student for truth in truths]:
            known = ', '.join(truth.student for truth in truths) or 'none'
            raise UsageError(f'--selections {text}: the results have the students {known}.')
        selections[student] = read_selection(Path(folder))
    text = report(truths, selections)
    print(text)
    if args.out:
        write_text_atomically(args.out, text)


if __name__ == '__main__':
    with readable_errors('teacher_choice.py'):
        main()
