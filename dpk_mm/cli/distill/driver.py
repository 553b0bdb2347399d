"""Does what a request asks for, stage by stage."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from rich.table import Table

from ...checkpoint.student_config import is_distillation, student_config
from ...errors import UsageError, without_period
from ...fileio import write_json_atomically
from ...models.pairing import complete
from .commands import Commands, log_file
from .config_file import plain
from .gradient_share import scaled_weights
from .plan import Network, Plan
from .shown import Shown
from .stages import Stages, digest
from .written import STUDENT, TEACHER, beside, check_written, distillation_text, network_text

#: Folders of the trainings in the work folder.
RUNS = ('teacher', 'student', 'baseline')
#: What runs beside the stages, with a log of its own.
_BESIDE = ('export of the teacher', 'report page')
_DRY, _DRY_TEACHER, _GRADIENTS = 'dry run', f'dry run of the {TEACHER}', 'gradients'
_FOLDERS = {
    _DRY: 'dry_run',
    _DRY_TEACHER: 'dry_run_of_the_teacher',
    _GRADIENTS: 'gradient_share',
}
LOGS = 'logs'
_SHARE_FILE = 'gradient_share.json'
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
        #: Whether what earlier runs left was removed; a second time would be one too many.
        self.started_over = False
        self._out = self.request.out
        self._student_file = beside(self._out, STUDENT)
        self._teacher_file = beside(self._out, TEACHER)
        self._read: dict[tuple[object, ...], str] = {}
        # once: a file that changes while it is trained on is noticed by the next run
        parts = plan.data.parts if plan.data else {}
        self._data = {name: part.state() for name, part in parts.items()}

    def run(self, dry: bool = True, fresh: bool = False) -> None:
        """Does all that is missing.

        Args:
            dry: Whether to make the dry run.
            fresh: Whether to start over: what earlier runs left is removed, once the configs are written.

        Raises:
            UsageError: If something cannot be done; what was done stays.
        """
        self._write(fresh)
        if fresh:
            remove_earlier(self.request.work_dir, self._stages, self.request.teacher_ckpt)
            self.started_over = True
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

    def _write(self, fresh: bool) -> None:
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
        weighted = None if fresh else self._with_weights()
        self._place(self._out, weighted or self._base)
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
        # what the user asked for: an edited config stays on a machine of other cores, which the text would name
        base = _code(self._base) if file == self._out else _content(self.plan.student)
        if file == self._teacher_file:
            base = f'{_content(self.plan.teacher)} {self.plan.teacher_start}'
        if not self._stages.place(file, text, base):
            self._shown.say(f'{file} was edited: it is used as it is.')
            self._edited = self._edited or file == self._out
        elif expected is not None:
            check_written(file, expected)

    # The dry run.

    def _dry_run(self) -> None:
        if self.plan.trains_teacher:
            self._dry(_DRY_TEACHER, self._teacher_file, self._inputs('teacher'))
        # not what was measured since: the weights of the losses need no other dry run
        text = self._said(self._out) if self._edited else _code(self._base)
        self._dry(_DRY, self._dry_config(), digest(text, *self._around()))

    def _dry(self, name: str, config: Path, inputs: str) -> None:
        folder = _folder(self.request.work_dir, name)

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
            self._commands.tool(_BESIDE[0], 'export_student.py', str(best), checkpoint, '--force')
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
        out = self.request.work_dir / _SHARE_FILE
        inputs = self._weight_inputs()

        def action() -> Mapping[str, Any]:
            folder = _folder(self.request.work_dir, _GRADIENTS)
            self._stages.place(self._out, self._base, self._base)
            self._commands.module(
                _GRADIENTS, 'gradient_share', str(self._out), str(folder), str(out)
            )
            shutil.rmtree(folder, ignore_errors=True)
            return json.loads(out.read_text(encoding='utf-8'))

        found = self._stages.run(_GRADIENTS, inputs, action)
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
        weights = found['weights']
        # a measurement of before knows all losses together, whose weights have one factor
        shares = found.get('shares') or dict.fromkeys(weights, found['share'] / len(weights))
        return scaled_weights(weights, shares, self.request.gradient_share)

    def _weight_inputs(self) -> str:
        return digest(_code(self._base), *self._around(), self._teacher_state())

    def _with_weights(self) -> str | None:
        """The text of the config with the measured weights; None if there are none."""
        share = self.request.gradient_share
        if share is None:
            return None
        found = self._stages.result(_GRADIENTS, self._weight_inputs())
        if found is None:
            return None
        why = (
            f'over {found["batches"]} batches the gradient of the distillation was {found["share"]:.3g} times the '
            f"student's own; "
            + (
                f'with these weights those of its losses add up to {share:g} times, in equal parts.'
                if 'shares' in found
                else f'these weights make it {share:g} times.'
            )
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
            return digest(self._said(self._teacher_file), *self._states('train', 'val'))
        if role == 'baseline':
            return digest(self._said(self._student_file), *self._states('train', 'val'))
        return digest(self._said(self._out), *self._around(), self._teacher_state())

    def _seconds(self, role: str) -> float | None:
        if role == 'teacher' and not self.plan.trains_teacher:
            return None
        done = self._stages.result(role, self._inputs(role))
        return None if done is None else float(done['seconds'])

    def _test(self, role: str, config: Path, checkpoint: str, stamp: object) -> dict[str, float]:
        name = _test_of(role)
        folder = _folder(self.request.work_dir, name)
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

        states = self._states('test' if 'test' in self._data else 'val')
        inputs = digest(self._said(config), *states, checkpoint, stamp)
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
        self._commands.tool(_BESIDE[1], _PAGE, *folders, '--out', str(page))
        self._shown.say(f'Report: {page}')

    # What a stage depends on.

    def _around(self) -> Sequence[str]:
        """What a distillation depends on beside its own config."""
        files = [self._student_file, *([self._teacher_file] if self.plan.writes_teacher else [])]
        teacher = [] if self.plan.writes_teacher else [_content(self.plan.teacher)]
        return [*map(self._said, files), *teacher, *self._states('train', 'val')]

    def _states(self, *parts: str) -> Sequence[str]:
        """What the annotations of the user's data say."""
        return [self._data[part] for part in parts if part in self._data]

    def _said(self, file: Path) -> str:
        """All that a config says, edited or not, but for comments and what belongs to the machine."""
        configs = (file, self._out, self._student_file, self._teacher_file)
        key = (file, *(config.read_bytes() for config in configs if config.is_file()))
        if (
            key in self._read
        ):  # reading takes long, and a base that changes meanwhile is noticed by the next run
            return self._read[key]
        try:
            cfg = Config.fromfile(file)
        except Exception as error:
            raise UsageError(f'{file} cannot be read: {without_period(error)}.') from error
        if cfg.get('model', {}).get('teacher') == f'{self._teacher_file.absolute()}':
            cfg.model.teacher = self._teacher_file.name  # the folder may be moved
        self._read[key] = _settings(cfg)
        return self._read[key]

    def _teacher_state(self) -> str:
        checkpoint = self.plan.teacher_ckpt
        if self.plan.trains_teacher:
            return f'{checkpoint} {self._stages.finished_at("teacher")}'
        file = Path(checkpoint or '')
        stamp = file.stat().st_mtime if checkpoint and file.is_file() else ''
        return f'{checkpoint} {stamp}'


def remove_earlier(work_dir: Path, stages: Stages, teacher_ckpt: str | None = None) -> None:
    """Removes what earlier runs of the command left in a work folder, and forgets their stages; configs stay.

    Only what its stages are known to have written goes: the folder may be one with other things in it. Copies of
    annotation files under ``data/`` stay: they were written anew for this run.

    Args:
        work_dir: The work folder.
        stages: Its stages.
        teacher_ckpt: A file that this run needs.

    Raises:
        UsageError: If that file would be removed.
    """
    drawn = [name for name in (_DRY, _DRY_TEACHER, _GRADIENTS) if stages.started(name)]
    trained = [name for name in (*RUNS, *map(_test_of, RUNS)) if stages.started(name)]
    folders = [_folder(work_dir, name) for name in (*drawn, *trained)]
    for folder in folders:
        if teacher_ckpt and folder.resolve() in Path(teacher_ckpt).resolve().parents:
            raise UsageError(
                f'--fresh removes {folder}, in which --teacher-ckpt {teacher_ckpt} lies: move the file elsewhere first.'
            )
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if drawn or trained:
        for name in (*drawn, *trained, *_BESIDE):
            log_file(work_dir / LOGS, name).unlink(missing_ok=True)
        for name in (RESULTS_FILE, REPORT_FILE, _SHARE_FILE):
            (work_dir / name).unlink(missing_ok=True)
    for name in ('tests', LOGS):
        with contextlib.suppress(OSError):  # not there, or not empty: something else lies in it
            (work_dir / name).rmdir()
    stages.forget()  # last: if this is stopped, another --fresh removes the rest


def _test_of(role: str) -> str:
    return f'test of the {role}'


def _folder(work_dir: Path, stage: str) -> Path:
    """What a stage writes to."""
    if stage.startswith(_test_of('')):
        return work_dir / 'tests' / stage.removeprefix(_test_of(''))
    return work_dir / _FOLDERS.get(stage, stage)


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


def _content(network: Network) -> str:
    return _settings(network.cfg)


def _settings(cfg: Config) -> str:
    """A whole config as text, without the processes of its loaders: another machine may have other cores."""
    settings = plain(cfg.to_dict())
    for name in ('train', 'val', 'test'):
        for key in ('num_workers', 'persistent_workers'):
            (settings.get(f'{name}_dataloader') or {}).pop(key, None)
    return str(settings)


def _code(text: str) -> str:
    """A written config without its comments."""
    return '\n'.join(line for line in text.splitlines() if not line.startswith('#'))


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
