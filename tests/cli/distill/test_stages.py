import pytest

from dpk_mm.cli.distill.stages import Stages, digest
from dpk_mm.errors import UsageError


def test_a_stage_is_done_once(tmp_path):
    calls = []

    def action():
        calls.append(1)
        return dict(answer=42)

    first = Stages(tmp_path).run('train', 'a', action)
    assert first['answer'] == 42 and first['seconds'] >= 0
    again = Stages(tmp_path)
    assert again.run('train', 'a', action) == first
    assert again.result('train', 'a') == first and again.result('train', 'b') is None
    assert again.finished_at('train') > 0 and again.finished_at('other') == 0
    again.run('train', 'b', action)
    assert len(calls) == 2


@pytest.mark.parametrize('stopped', [KeyboardInterrupt, UsageError, OSError])
def test_a_stage_that_was_stopped_is_not_done_and_its_time_counts(tmp_path, stopped):
    def stop():
        raise stopped

    stages = Stages(tmp_path)
    with pytest.raises(stopped):
        stages.run('train', 'a', stop)
    stages = Stages(tmp_path)
    assert stages.result('train', 'a') is None
    assert stages._stages['train']['seconds'] >= 0
    stages._stages['train']['seconds'] = 100.0
    assert stages.run('train', 'a', dict)['seconds'] >= 100


def test_checkpoints_of_other_settings_are_not_gone_on_from(tmp_path):
    stages = Stages(tmp_path)
    folder = tmp_path / 'student'
    folder.mkdir()
    stages.run('student', 'a', dict, folder)
    (folder / 'epoch_1.pth').write_text('')
    assert 'seconds' in stages.run('student', 'a', dict, folder)
    with pytest.raises(UsageError, match='holds a training with other settings.*--fresh'):
        stages.run('student', 'b', dict, folder)
    assert (folder / 'epoch_1.pth').is_file()


def test_a_training_that_no_stage_knows_of_is_not_said_to_go_with_fresh(tmp_path):
    folder = tmp_path / 'student'
    folder.mkdir()
    (folder / 'epoch_1.pth').write_text('')
    with pytest.raises(UsageError, match='knows nothing of: name another folder') as error:
        Stages(tmp_path).run('student', 'a', dict, folder)
    assert '--fresh' not in str(error.value)


def test_forgotten_stages_are_done_again_and_configs_are_still_known(tmp_path):
    file = tmp_path / 'config.py'
    stages = Stages(tmp_path)
    stages.place(file, 'a = 1', 'a = 1')
    stages.run('student', 'a', dict)
    stages.forget()
    for known in (stages, Stages(tmp_path)):
        assert not known.started('student') and known.result('student', 'a') is None
    assert Stages(tmp_path).place(file, 'b = 1', 'b = 1')
    assert file.read_text() == 'b = 1'


def test_a_damaged_state_starts_over(tmp_path):
    (tmp_path / 'stages.json').write_text('{"stages": ')
    assert Stages(tmp_path).result('train', 'a') is None


def test_configs_are_written_and_edits_are_kept(tmp_path):
    file = tmp_path / 'config.py'
    assert Stages(tmp_path).place(file, 'a = 1', 'a = 1')
    assert Stages(tmp_path).place(file, 'a = 2', 'a = 1')  # a measured number in it
    assert file.read_text() == 'a = 2'
    file.write_text('a = 3')
    assert Stages(tmp_path).place(file, 'a = 2', 'a = 1') is False
    assert file.read_text() == 'a = 3'
    with pytest.raises(UsageError, match='was edited since it was written, and the options'):
        Stages(tmp_path).place(file, 'b = 1', 'b = 1')
    assert file.read_text() == 'a = 3'


def test_a_file_of_someone_else_stays(tmp_path):
    file = tmp_path / 'config.py'
    file.write_text('mine')
    with pytest.raises(
        UsageError, match='was not written by this command: name another file with --out'
    ):
        Stages(tmp_path).place(file, 'a = 1', 'a = 1')
    assert file.read_text() == 'mine'


def test_digests():
    assert digest('a', 'b') == digest('a', 'b') != digest('ab')
