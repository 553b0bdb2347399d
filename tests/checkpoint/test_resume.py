import os
import shutil
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.resume import has_checkpoint, prepare_resume, read_training_state
from dpk_mm.errors import CheckpointError, DamagedCheckpointError, UsageError


def write(path, seed=0, **without):
    state = dict(
        meta=dict(seed=seed, epoch=1, iter=5),
        state_dict=dict(w=torch.arange(1000.0)),
        optimizer={},
        message_hub={},
    )
    torch.save({k: v for k, v in state.items() if k not in without}, path)
    return path


def damage(path):
    """Changes one bit of the weights, which torch itself would not notice."""
    content = bytearray(path.read_bytes())
    where = content.index(torch.arange(500.0, 502.0).numpy().tobytes())
    content[where] ^= 1
    path.write_bytes(content)


@pytest.fixture
def run(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path / f'epoch_{number}.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    return tmp_path


def config(folder, **kwargs):
    return Config(dict(work_dir=str(folder), resume=True, **kwargs))


def test_one_changed_bit_is_noticed(tmp_path):
    path = write(tmp_path / 'a.pth')
    assert read_training_state(path)['state_dict']['w'][500] == 500
    damage(path)
    assert torch.load(path)['state_dict']['w'][500] != 500  # torch loads it
    with pytest.raises(DamagedCheckpointError, match=r'a\.pth is truncated or corrupt'):
        read_training_state(path)


@pytest.mark.parametrize('share', [0, 0.5, 0.99])
def test_a_truncated_file_is_noticed(tmp_path, share):
    path = write(tmp_path / 'a.pth')
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(DamagedCheckpointError, match=r'a\.pth is truncated or corrupt'):
        read_training_state(path)


@pytest.mark.parametrize('key', ['optimizer', 'meta'])
def test_weights_alone_are_not_enough(tmp_path, key):
    path = write(tmp_path / 'best.pth', **{key: True})
    with pytest.raises(CheckpointError, match=f'cannot be resumed from, because it has no {key}'):
        read_training_state(path)


def test_without_resume_nothing_is_read(run):
    cfg = Config(dict(work_dir=str(run), load_from='x.pth'))
    assert prepare_resume(cfg) is None and cfg.load_from == 'x.pth'


def test_the_newest_is_taken(run, capsys):
    cfg = config(run)
    assert prepare_resume(cfg) == cfg.load_from == str(run / 'epoch_3.pth')
    assert capsys.readouterr().err == ''


def test_a_damaged_one_is_named_and_the_one_before_it_taken(run, capsys):
    damage(run / 'epoch_3.pth')
    os.truncate(run / 'epoch_2.pth', 100)
    assert prepare_resume(config(run)) == str(run / 'epoch_1.pth')
    said = capsys.readouterr().err
    assert said.startswith(f'warning: {run / "epoch_3.pth"} is truncated or corrupt; ')
    assert f'{run / "epoch_2.pth"} is truncated or corrupt' in said
    assert said.endswith(f'resuming from {run / "epoch_1.pth"}.\n') and said.count('\n') == 1


def test_only_the_first_rank_says_it(run, capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    damage(run / 'epoch_3.pth')
    assert prepare_resume(config(run)) == str(run / 'epoch_2.pth')
    assert capsys.readouterr().err == ''


def test_higher_numbers_of_an_older_run_are_left_alone(run):
    write(run / 'epoch_9.pth')
    assert prepare_resume(config(run)) == str(run / 'epoch_3.pth')
    damage(run / 'epoch_3.pth')
    assert prepare_resume(config(run)) == str(run / 'epoch_2.pth')


@pytest.mark.parametrize('content', [None, '', '\udcff'])
def test_an_empty_or_missing_last_checkpoint(run, content):
    (run / 'last_checkpoint').unlink()
    if content is not None:
        (run / 'last_checkpoint').write_bytes(content.encode('utf-8', 'surrogateescape'))
    assert prepare_resume(config(run)) == str(run / 'epoch_3.pth')


def test_a_work_folder_that_was_moved(run):
    (run / 'last_checkpoint').write_text('/somewhere/else/epoch_2.pth')
    assert prepare_resume(config(run)) == str(run / 'epoch_2.pth')


@pytest.mark.parametrize('name', ['epoch_3.pth', 'epoch_9.pth'])
def test_a_work_folder_that_was_copied_goes_on_from_its_own_file(run, tmp_path_factory, name):
    write(run / 'epoch_9.pth')
    (run / 'last_checkpoint').write_text(str(run / name))
    copy = tmp_path_factory.mktemp('copy')
    shutil.copytree(run, copy, dirs_exist_ok=True)
    assert (run / name).is_file()
    assert prepare_resume(config(copy)) == str(copy / name)
    (copy / name).unlink()  # not copied: the named one is the newest
    assert prepare_resume(config(copy)) == str(run / name)


def test_checkpoints_in_a_folder_of_their_own(run, tmp_path_factory):
    """The work folder has those of an earlier run, whose names are the same."""
    other = tmp_path_factory.mktemp('out')
    write(other / 'epoch_2.pth')
    (run / 'last_checkpoint').write_text(str(other / 'epoch_2.pth'))
    cfg = config(run)
    cfg.default_hooks = dict(checkpoint=dict(type='CheckpointHook', out_dir=str(other)))
    assert (run / 'epoch_2.pth').is_file()
    assert prepare_resume(cfg) == str(other / 'epoch_2.pth')


def test_a_folder_that_is_gone_with_the_named_file(run):
    """Only the newest file was not copied, as of a run that was still going on."""
    write(run / 'epoch_4.pth')
    (run / 'last_checkpoint').write_text('/somewhere/else/epoch_5.pth')
    assert prepare_resume(config(run)) == str(run / 'epoch_4.pth')


def test_a_named_file_that_is_gone_and_its_folder_not(run, tmp_path_factory):
    other = tmp_path_factory.mktemp('other')
    (run / 'last_checkpoint').write_text(str(other / 'epoch_5.pth'))
    assert prepare_resume(config(run)) == str(run / 'epoch_3.pth')
    write(other / 'epoch_4.pth')
    assert prepare_resume(config(run)) == str(other / 'epoch_4.pth')


def test_none_at_all_is_a_new_start(tmp_path):
    cfg = config(tmp_path / 'new')
    assert prepare_resume(cfg) is None and cfg.get('load_from') is None
    assert cfg.resume is False


def test_what_counts_as_something_to_resume_from(tmp_path):
    assert not has_checkpoint(tmp_path / 'new')
    (tmp_path / 'best_acc_epoch_1.pth').touch()
    assert not has_checkpoint(tmp_path)
    (tmp_path / 'last_checkpoint').write_text('gone.pth')
    assert has_checkpoint(tmp_path)
    (tmp_path / 'last_checkpoint').unlink()
    write(tmp_path / 'iter_3.pth')
    assert has_checkpoint(tmp_path)


def test_none_that_can_be_read_is_an_error(run):
    for path in run.glob('*.pth'):
        os.truncate(path, 50)
    with pytest.raises(UsageError) as error:
        prepare_resume(config(run))
    said = str(error.value)
    assert f'none of the 3 checkpoints in {run} can be read' in said
    assert str(run / 'epoch_3.pth') in said and 'start anew' in said


def test_a_named_one_that_is_gone_with_all_others(tmp_path):
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    with pytest.raises(UsageError, match=r'names .*epoch_3\.pth, which does not exist'):
        prepare_resume(config(tmp_path))


def test_a_given_one_has_to_be_whole(run):
    given = run / 'epoch_2.pth'
    assert prepare_resume(config(run, load_from=str(given))) == str(given)
    damage(given)
    with pytest.raises(UsageError) as error:
        prepare_resume(config(run, load_from=str(given)))
    assert str(error.value) == (
        f'--resume: {given} is truncated or corrupt; the newest good one is {run / "epoch_3.pth"}.'
    )
    for path in run.glob('epoch_[13].pth'):
        path.unlink()
    with pytest.raises(UsageError, match=f'there is no good one in {run}'):
        prepare_resume(config(run, load_from=str(given)))


def test_the_seed_of_the_checkpoint_is_that_of_the_run(run, capsys):
    write(run / 'epoch_3.pth', seed=77)
    cfg = config(run)
    prepare_resume(cfg)
    assert cfg.randomness == dict(seed=77) and capsys.readouterr().err == ''
    cfg = config(run, randomness=dict(seed=5, deterministic=True))
    prepare_resume(cfg)
    assert cfg.randomness == dict(seed=77, deterministic=True)
    assert 'with seed 77, which the resumed run uses, and not randomness.seed=5' in (
        capsys.readouterr().err
    )


def test_what_a_killed_run_left_is_removed(run):
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    (run / f'.epoch_4.pth.{ended.pid}.tmp').touch()
    prepare_resume(Config(dict(work_dir=str(run))))
    assert not list(run.glob('.*'))
