"""Damaged checkpoints, moved out of the way of a run that goes on."""

import itertools
import os
import pathlib

import jax
from jax.experimental import multihost_utils

from slimjax.train.checkpoint_folder import check_whole, step_folders
from slimjax.train.integrity import BrokenCheckpointError

FOLDER = 'broken_checkpoints'


def set_aside_broken(workdir: pathlib.Path) -> list[str]:
    """Reads all checkpoints of a run, and moves those that are damaged out of the way.

    They go to `WORKDIR/broken_checkpoints`, as something in them may be worth saving.
    All processes must call it, before any opens the checkpoints.

    Args:
        workdir: of the run.

    Returns:
        A line for each: which one, what is wrong and where it is now.

    Raises:
        ValueError: all are damaged; they are left where they are.

    Example:
        >>> set_aside_broken(pathlib.Path('/nowhere'))
        []
    """
    directory = workdir / 'checkpoints'
    folders, broken = step_folders(directory), {}
    for folder in folders:
        try:
            check_whole(folder)
        except BrokenCheckpointError as error:
            broken[folder] = error
    if broken and len(broken) == len(folders):
        reasons = '; '.join(f'{folder.name}: {why}' for folder, why in broken.items())
        raise ValueError(
            f'no checkpoint in {directory} is whole ({reasons}): restore one from a '
            'copy, or take another --workdir to start anew'
        )
    _wait_for_all_processes()
    targets = {folder: _unused(workdir / FOLDER / folder.name) for folder in broken}
    _wait_for_all_processes()
    for folder, target in targets.items():
        if not jax.process_index():
            target.parent.mkdir(exist_ok=True)
            os.replace(folder, target)
    _wait_for_all_processes()
    return [
        f'the checkpoint of step {folder.name} is damaged ({why}): moved to '
        f'{targets[folder]}'
        for folder, why in broken.items()
    ]


def _unused(path: pathlib.Path) -> pathlib.Path:
    """The path, or with a number behind it: the same step may break twice."""
    others = (path.with_name(f'{path.name}.{n}') for n in itertools.count(1))
    return next(each for each in itertools.chain([path], others) if not each.exists())


def _wait_for_all_processes() -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(FOLDER)
