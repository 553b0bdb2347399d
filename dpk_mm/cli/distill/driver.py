"""Does what a request asks for, stage by stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from rich.table import Table

from ...checkpoint.student_config import is_distillation, student_config
from ...errors import UsageError
from ...fileio import write_json_atomically
from ...models.pairing import complete
from .commands import Commands
from .config_file import plain
from .gradient_share import scaled_weights
from .plan import Network, Plan
from .shown import Shown
from .stages import STATE_FILE, Stages, digest
from .written import STUDENT, TEACHER, beside, check_written, distillation_text, network_text

#: Folders of the trainings in the work folder.
RUNS = ('teacher', 'student', 'baseline')
RESULTS_FILE = 'results.json'
REPORT_FILE = 'report.html'
_PAGE = 'analysis/report_page.py'


class Driver:
    """Writes the configs of a plan, tries them out, trains, tests and reports.

    Args:
        plan: What is to be done.
        commands: Runs the tools.
        shown: The console.
        command: The command line, for the report.
    """

    def __init__(self, plan: Plan, commands: Commands, shown: Shown, command: str = '') -> None:
        self.plan = plan
        self.request = plan.request
        self._commands = commands
        self._shown = shown
        self._command = command
        self._stages = Stages(self.request.work_dir)
        self._edited = False
        self._out = self.request.out
        self._student_file = beside(self._out, STUDENT)
        self._teacher_file = beside(self._out, TEACHER)

    def run(self, dry: bool = True) -> None:
        """Does all that is missing.

        Args:
            dry: Whether to make the dry run.

        Raises:
            UsageError: If something cannot be done; what was done stays.
        """
        self._write()
        if dry:
            self._dry_run()
        if not self.request.train:
            self._shown.say(
                f'Train it with: {self._command} --train'
                if self.plan.teacher_ckpt
                else 'Next: add --train --train-teacher, or --train --teacher-ckpt FILE.'
            )
            return
        if self.plan.trains_teacher:
            self._train_teacher()
        if self.request.gradient_share is not None:
            self._set_weights(self.request.gradient_share)
        self._train_students()
        self._report()

    # Configs.

    def _write(self) -> None:
        plan, shown = self.plan, self._shown
        for note in plan.notes:
            shown.say(f'Note: {note}')
        student = network_text(plan.student, STUDENT, self._out)
        self._place(self._student_file, student, plan.student.cfg)
        shown.rows(f'The student, {plan.student.found.stem}', plan.student.rows)
        if plan.writes_teacher:
            teacher = network_text(plan.teacher, TEACHER, self._out, plan.teacher_start)
            self._place(self._teacher_file, teacher, plan.teacher.cfg)
            other = [row for row in plan.teacher.rows if row not in plan.student.rows]
            title = f'The teacher, {plan.teacher.found.stem}: as the student'
            shown.rows(f'{title}, but for' if other else title, other)
            if not other:
                shown.say(title, style='bold')
        short = distillation_text(plan)
        # without the rows first: they come from looking at what the file says
        draft = self._out.with_name(f'.{self._out.name}')
        draft = draft.with_suffix('.draft.py')
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(short, encoding='utf-8')
        try:
            completed = complete(Config.fromfile(draft))
        except UsageError as error:
            raise UsageError(self._in_options(str(error))) from error
        finally:
            draft.unlink(missing_ok=True)
        # the two networks are named above, and the path of this draft's teacher is none to write down
        self._rows = [row for row in completed.rows if row.what not in (STUDENT, TEACHER)]
        shown.rows(f'The distillation, {self.plan.method}', self._rows)
        self._base = distillation_text(plan, self._rows)
        self._place(self._out, self._with_weights() or self._base)
        shown.say(f'Config: {self._out}')

    def _in_options(self, sentence: str) -> str:
        """A sentence about keys of a config, said of the options that they come from."""
        names = {
            'model.architecture': f'--student {self.request.student}',
            'model.teacher has': f'--teacher {self.request.teacher} has',
            'model.teacher is': f'--teacher {self.request.teacher} is',
            'model.teacher expects': f'--teacher {self.request.teacher} expects',
            'model.method: ': '--method: ',
            'set model.': 'add --cfg-options model.',
        }
        for key, option in names.items():
            sentence = sentence.replace(key, option)
        return sentence

    def _place(self, file: Path, text: str, expected: Config | None = None) -> None:
        base = self._base if file == self._out else text
        if not self._stages.place(file, text, base):
            self._shown.say(f'{file} was edited: it is used as it is.')
            self._edited = self._edited or file == self._out
        elif expected is not None:
            check_written(file, expected)

    # The dry run.

    def _dry_run(self) -> None:
        if self.plan.trains_teacher:
            self._dry(f'dry run of the {TEACHER}', self._teacher_file, self._inputs('teacher'))
        # not what was measured since: the weights of the losses need no other dry run
        text = _text_of(self._out) if self._edited else self._base
        self._dry('dry run', self._dry_config(), digest(text, *self._plain_texts()))

    def _dry(self, name: str, config: Path, inputs: str) -> None:
        folder = self.request.work_dir / name.replace(' ', '_')

        def action() -> Mapping[str, Any]:
            shutil.rmtree(folder, ignore_errors=True)
            self._commands.module(name, 'dry_run', str(config), str(folder))
            shutil.rmtree(folder, ignore_errors=True)
            return {}

        done = self._stages.run(name, digest(inputs), action)
        what = 'two iterations, validation' + ('' if TEACHER in name else ', export')
        self._shown.say(f'{name}: {what} work ({done["seconds"]:.0f} s).')

    def _dry_config(self) -> Path:
        """The config; before the teacher is trained, a copy without its checkpoint."""
        checkpoint = self.plan.teacher_ckpt
        if not self.plan.trains_teacher or checkpoint is None or Path(checkpoint).is_file():
            return self._out
        copy = self._out.with_name(f'{self._out.stem}_untrained.py')
        copy.write_text(
            '# For the dry run: the teacher has no weights yet.\n'
            f"_base_ = './{self._out.name}'\n\nmodel = dict(teacher_ckpt=None)\n",
            encoding='utf-8',
        )
        return copy

    # Trainings.

    def _train_teacher(self) -> None:
        folder = self.request.work_dir / 'teacher'
        checkpoint = self.plan.teacher_ckpt
        assert checkpoint is not None

        def action() -> Mapping[str, Any]:
            epochs = self.plan.teacher.cfg.train_cfg.get('max_epochs')
            self._commands.train('teacher', self._teacher_file, folder, epochs)
            best = _best(folder)
            self._commands.tool(
                'export of the teacher', 'export_student.py', str(best), checkpoint, '--force'
            )
            return dict(checkpoint=checkpoint, trained=best.name)

        done = self._stages.run('teacher', self._inputs('teacher'), action, folder)
        self._shown.say(
            f'teacher: trained in {_time(done["seconds"])}, {checkpoint} is {done["trained"]}.'
        )

    def _set_weights(self, share: float) -> None:
        if self._edited:
            raise UsageError(
                f'--gradient-share sets loss weights in {self._out}, which was edited: set them there and leave the '
                'option out, or name another file with --out.'
            )
        out = self.request.work_dir / 'gradient_share.json'
        inputs = self._weight_inputs()

        def action() -> Mapping[str, Any]:
            folder = self.request.work_dir / 'gradient_share'
            self._stages.place(self._out, self._base, self._base)
            self._commands.module(
                'gradients', 'gradient_share', str(self._out), str(folder), str(out)
            )
            shutil.rmtree(folder, ignore_errors=True)
            return json.loads(out.read_text(encoding='utf-8'))

        found = self._stages.run('gradients', inputs, action)
        text = self._with_weights()
        assert text is not None
        weights = ', '.join(
            f'{k} {v:g} -> {w:g}'
            for (k, v), w in zip(
                found['weights'].items(), self._scaled(found).values(), strict=True
            )
        )
        self._shown.say(
            f"gradients: over {found['batches']} batches the distillation's is {found['share']:.3g} times the "
            f"student's own (median); --gradient-share {share:g}: loss_weight of {weights}."
        )
        self._place(self._out, text)

    def _scaled(self, found: Mapping[str, Any]) -> dict[str, float]:
        assert self.request.gradient_share is not None
        return scaled_weights(found['weights'], found['share'], self.request.gradient_share)

    def _weight_inputs(self) -> str:
        return digest(self._base, *self._plain_texts(), self._teacher_state())

    def _with_weights(self) -> str | None:
        """The text of the config with the measured weights; None if there are none."""
        share = self.request.gradient_share
        if share is None:
            return None
        found = self._stages.result('gradients', self._weight_inputs())
        if found is None:
            return None
        why = (
            f'over {found["batches"]} batches the gradient of the distillation was {found["share"]:.3g} times the '
            f"student's own; these weights make it {share:g} times."
        )
        return distillation_text(self.plan, self._rows, self._scaled(found), why)

    def _train_students(self) -> None:
        folder = self.request.work_dir / 'student'
        epochs = self.plan.student.cfg.train_cfg.get('max_epochs')

        def student() -> Mapping[str, Any]:
            self._commands.train('student', self._out, folder, epochs)
            names = ('student_best.pth', 'student_last.pth')
            best = next(name for name in names if (folder / name).is_file())
            return dict(checkpoint=str(folder / best))

        done = self._stages.run('student', self._inputs('student'), student, folder)
        self._shown.say(f'student: trained in {_time(done["seconds"])}, {done["checkpoint"]}.')
        if not self.request.baseline:
            return
        alone = self.request.work_dir / 'baseline'

        def baseline() -> Mapping[str, Any]:
            option = ('--cfg-options', 'default_hooks.checkpoint.save_best=auto')
            self._commands.train('baseline', self._student_file, alone, epochs, *option)
            return dict(checkpoint=str(_best(alone)))

        done = self._stages.run('baseline', self._inputs('baseline'), baseline, alone)
        self._shown.say(f'baseline: trained in {_time(done["seconds"])}, {done["checkpoint"]}.')

    # Results.

    def _report(self) -> None:
        configs = {
            'teacher': self._teacher_file
            if self.plan.writes_teacher
            else self.plan.teacher.found.file,
            'baseline': self._student_file,
            'student': self._student_file,
        }
        results = {}
        for role in ('teacher', *(['baseline'] if self.request.baseline else []), 'student'):
            given = role == 'teacher' and not self.plan.trains_teacher
            stage = self._teacher_state() if given else self._stages.finished_at(role)
            checkpoint = self._checkpoint(role)
            metrics = self._test(role, configs[role], checkpoint, stage)
            results[role] = dict(
                config=str(configs[role]),
                checkpoint=checkpoint,
                metrics=metrics,
                parameters=parameters(configs[role]),
                train_seconds=self._seconds(role),
            )
        content = dict(command=self._command, method=self.plan.method, results=results)
        write_json_atomically(self.request.work_dir / RESULTS_FILE, content)
        self._show_results(results)
        self._page()

    def _checkpoint(self, role: str) -> str:
        if role == 'teacher':
            assert self.plan.teacher_ckpt is not None
            return self.plan.teacher_ckpt
        inputs = self._inputs(role)
        done = self._stages.result(role, inputs)
        assert done is not None
        return str(done['checkpoint'])

    def _inputs(self, role: str) -> str:
        """What a training depends on: its own config, and of the student the teacher as well."""
        if role == 'teacher':
            return digest(_text_of(self._teacher_file), _content(self.plan.teacher))
        if role == 'baseline':
            return digest(_text_of(self._student_file), _content(self.plan.student))
        return digest(_text_of(self._out), *self._plain_texts(), self._teacher_state())

    def _seconds(self, role: str) -> float | None:
        if role == 'teacher' and not self.plan.trains_teacher:
            return None
        done = self._stages.result(role, self._inputs(role))
        return None if done is None else float(done['seconds'])

    def _test(self, role: str, config: Path, checkpoint: str, stamp: object) -> dict[str, float]:
        name = f'test of the {role}'
        folder = self.request.work_dir / 'tests' / role
        out = folder / 'metrics.json'

        def action() -> Mapping[str, Any]:
            self._commands.tool(
                name,
                'test.py',
                str(config),
                checkpoint,
                '--work-dir',
                str(folder),
                '--out',
                str(out),
            )
            return dict(metrics=json.loads(out.read_text(encoding='utf-8')))

        network = self.plan.teacher if role == 'teacher' else self.plan.student
        inputs = digest(_text_of(config), _content(network), checkpoint, stamp)
        return self._stages.run(name, inputs, action)['metrics']

    def _show_results(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        main = next((name for r in results.values() for name in r['metrics']), 'metric')
        table = Table(
            title='Test', title_justify='left', title_style='bold', box=None, pad_edge=False
        )
        for column in ('model', main, 'parameters', 'training'):
            table.add_column(column, justify='left' if column == 'model' else 'right')
        for role, result in results.items():
            value = result['metrics'].get(main)
            seconds = result['train_seconds']
            table.add_row(
                role,
                '-' if value is None else f'{value:.4g}',
                f'{result["parameters"] / 1e6:.2f} M',
                '-' if seconds is None else _time(seconds),
            )
        self._shown.console.print(table)
        self._shown.say(f'All numbers: {self.request.work_dir / RESULTS_FILE}')

    def _page(self) -> None:
        if not self._commands.has(_PAGE):
            return
        page = self.request.work_dir / REPORT_FILE
        folders = [
            str(self.request.work_dir / role)
            for role in RUNS
            if (self.request.work_dir / role).is_dir() and self._seconds(role) is not None
        ]
        self._commands.tool('report page', _PAGE, *folders, '--out', str(page))
        self._shown.say(f'Report: {page}')

    # What a stage depends on.

    def _plain_texts(self) -> Sequence[str]:
        files = [self._student_file, *([self._teacher_file] if self.plan.writes_teacher else [])]
        networks = (self.plan.student, self.plan.teacher)
        return [*map(_text_of, files), *map(_content, networks)]

    def _teacher_state(self) -> str:
        checkpoint = self.plan.teacher_ckpt
        if self.plan.trains_teacher:
            return f'{checkpoint} {self._stages.finished_at("teacher")}'
        file = Path(checkpoint or '')
        stamp = file.stat().st_mtime if checkpoint and file.is_file() else ''
        return f'{checkpoint} {stamp}'


def remove_earlier(work_dir: Path) -> None:
    """Removes what earlier runs of the command left in a work folder; configs stay."""
    for name in (*RUNS, 'tests', 'logs', 'dry_run', 'gradient_share', 'data'):
        shutil.rmtree(work_dir / name, ignore_errors=True)
    for name in (STATE_FILE, RESULTS_FILE, REPORT_FILE):
        (work_dir / name).unlink(missing_ok=True)


def parameters(config: Path) -> int:
    """Parameters of the model of a config, of the student for a distillation."""
    cfg = Config.fromfile(config)
    cfg = student_config(cfg) if is_distillation(cfg) else cfg
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model = MODELS.build(cfg.model)
    return sum(p.numel() for p in model.parameters())


def _best(folder: Path) -> Path:
    """The best checkpoint of a training; the last one where there was no validation."""
    best = sorted(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if best:
        return best[-1]
    last = folder / 'last_checkpoint'
    if not last.is_file():
        raise UsageError(f'{folder} holds no checkpoint: the training wrote none.')
    return Path(last.read_text(encoding='utf-8').strip())


def _text_of(file: Path) -> str:
    return file.read_text(encoding='utf-8') if file.is_file() else ''


def _content(network: Network) -> str:
    """The whole config of a network: the written file says only what differs from the one that it inherits."""
    return str(plain(network.cfg.to_dict()))


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f'{hours} h {minutes:02} min'
        if hours
        else f'{minutes} min {rest:02} s'
        if minutes
        else f'{rest} s'
    )
