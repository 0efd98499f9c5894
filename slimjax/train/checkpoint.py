"""Saving a run, resuming it, reading its weights, by orbax.

A checkpoint is a folder that a stranger can open. `params`, `stats`, `average` and
`training` (the optimiser's state, and the metrics of an unfinished log interval) are
plain nested dictionaries of arrays, each readable by itself; `meta/meta.json` tells
config, versions and class names. The two newest and the best are kept, so that there
is one to go on from where the newest is damaged. A new one is written under a temporary
name. An old one is deleted when the next is saved, and renamed before that, so that
whatever has a step's name is whole, in whatever moment a run is killed.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from slimjax.train.checkpoint_folder import (
    FORMAT_VERSION,
    SCORE,
    context,
    current,
    read_meta,
    read_parts,
    reason,
    step_folders,
)
from slimjax.train.integrity import sealed
from slimjax.train.state import TrainState
from slimjax.variables import check_shapes

# Of a folder that is being deleted.
_DELETED = '.deleted'


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What was read from one.

    Attributes:
        meta: contents of `meta.json`.
        params: parameters of all widths, as numpy arrays.
        stats: all other collections.
    """

    meta: dict[str, Any]
    params: Any
    stats: Any


class Checkpoints:
    """The checkpoints of one run, in `<workdir>/checkpoints`.

    Args:
        directory: where they stand; made on the first save.
        clear: whether what an interrupted save left is deleted. Only for the run
            itself: others would delete what it is just writing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Checkpoints(folder) as checkpoints:
        ...         checkpoints.newest is None
        True
    """

    def __init__(self, directory: str | pathlib.Path, *, clear: bool = False):
        self._directory = pathlib.Path(directory).absolute()
        if clear:
            self._clear_deleted()
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            context=context(),
            # Saves when told to; the default skips while one is under way.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(
                1
            ),
            # Orbax deletes a folder under its own name: killed there, it leaves half.
            preservation_policy=ocp.training.preservation_policies.PreserveAll(),
            cleanup_tmp_directories=clear,
        )
        self._saving = None

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, kind, *_) -> None:
        # What went wrong first is what is told.
        with contextlib.suppress(Exception) if kind else self._explained():
            try:
                self._finish_saving()
            finally:
                self._checkpointer.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Says what failed, where a thread of orbax raises whatever it does."""
        try:
            yield
        except Exception as error:
            raise OSError(
                f'{self._directory}: a checkpoint cannot be written: '
                f'{reason(error)}; those before it are kept'
            ) from error

    @property
    def newest(self) -> int | None:
        """The newest checkpoint's step, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    @property
    def best(self) -> int | None:
        """The step of the checkpoint with the highest score, or None.

        Of equals, the earliest; NaN is the lowest.
        """
        scored = [
            (_comparable(checkpoint.metrics[SCORE]), -checkpoint.step)
            for checkpoint in self._checkpointer.checkpoints
            if checkpoint.metrics
        ]
        return -max(scored)[1] if scored else None

    def save(
        self, state: TrainState, meta: Mapping[str, Any], score: float | None = None
    ) -> None:
        """Saves a state in the background; all processes must call it.

        Args:
            state: may be donated as soon as this returns.
            meta: JSON-able facts; `format_version` and `step` are added.
            score: the higher, the better; None for a state that was not evaluated.

        Raises:
            OSError: it cannot be written, or the one before could not.
        """
        state = flax.serialization.to_state_dict(_on_host(state))
        step = int(state.pop('step'))
        parts = {
            'params': state.pop('params'),
            'stats': state.pop('stats'),
            'average': state.pop('average'),
            'training': state,
        }
        if parts['average'] is None:
            del parts['average']
        self._save(step, parts, meta, score)

    def save_weights(self, params: Any, stats: Any, meta: Mapping[str, Any]) -> None:
        """Saves weights that no run of ours has trained, as step 0.

        They can be evaluated and fine-tuned; there is no run to resume.
        """
        parts = _on_host({'params': params, 'stats': stats})
        self._save(0, parts, meta, score=None)

    def _save(self, step: int, parts: dict[str, Any], meta, score: float | None):
        facts = {'format_version': FORMAT_VERSION, 'step': step, SCORE: score}
        meta = sealed({**meta, **facts}, parts)
        with self._explained():
            self._finish_saving()
            self._saving = self._checkpointer.save_checkpointables_async(
                step,
                {**parts, 'meta': meta},
                force=True,
                metrics=None if score is None else {SCORE: score},
            )

    def wait(self) -> None:
        """Returns when all that was saved is on the disk.

        Raises:
            OSError: it cannot be written.
        """
        with self._explained():
            self._finish_saving()
            self._checkpointer.wait()

    def _finish_saving(self) -> None:
        # A save of which nobody takes the result keeps a thread and three files.
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()
            self._delete_old()

    def _delete_old(self) -> None:
        """Deletes all but the two newest and the best.

        What the disk does not let go of is no reason to end a run: the next save tries
        again.
        """
        if jax.process_index():
            return
        best = self.best
        for folder in step_folders(self._directory)[:-2]:
            if int(folder.name) != best:
                with contextlib.suppress(OSError):
                    os.replace(folder, folder.with_suffix(_DELETED))
        self._clear_deleted()

    def _clear_deleted(self) -> None:
        if not jax.process_index():
            for path in self._directory.glob(f'*{_DELETED}'):
                shutil.rmtree(path, ignore_errors=True)

    def meta(self, step: int) -> dict[str, Any]:
        """Returns `meta.json` of a checkpoint.

        Raises:
            BrokenCheckpointError: it is not as it was written.
            ValueError: a format that this version of slimjax does not read.
        """
        return current(read_meta(self._path(step)))

    def load(self, step: int, *, average: bool = False) -> Checkpoint:
        """Returns the weights of a checkpoint, or their moving averages.

        Raises:
            BrokenCheckpointError: it is not as it was written.
            ValueError: a format that this version of slimjax does not read, or
                averages that the run did not keep.
        """
        meta, path = self.meta(step), self._path(step)
        if not average:
            parts = read_parts(path, meta, ['params', 'stats'])
        else:
            if not (path / 'average').is_dir():
                raise ValueError(f'the checkpoint of step {step} has no averages')
            parts = read_parts(path, meta, ['average'])['average']
        return Checkpoint(meta, parts['params'], parts['stats'])

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Returns the whole state of a checkpoint, as numpy arrays.

        Args:
            step: which checkpoint.
            like: a state of the same structure and shapes, such as one made anew.

        Raises:
            BrokenCheckpointError: it is not as it was written.
            ValueError: the checkpoint's structure or shapes are not those of `like`.
        """
        meta = self.meta(step)
        names = ['params', 'stats', 'training']
        if like.average is not None:
            names.append('average')
        parts = read_parts(self._path(step), meta, names)
        tree = {
            'step': np.array(step, np.int32),
            'average': None,
            **parts.pop('training'),
            **parts,
        }
        try:
            state = flax.serialization.from_state_dict(like, tree)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f'the checkpoint of step {step} is of another network: {error}'
            ) from None
        check_shapes(like, state, f'the checkpoint of step {step}')
        return state

    def _path(self, step: int) -> pathlib.Path:
        return self._directory / str(step)


def load_variables(path: str | pathlib.Path) -> Checkpoint:
    """Returns the weights of a run: those of its best checkpoint, or else the newest.

    The moving averages are returned where the run kept them, as they were scored.

    Args:
        path: a workdir, or its folder `checkpoints`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        BrokenCheckpointError: it is not as it was written.
    """
    path = pathlib.Path(path)
    directory = path / 'checkpoints' if (path / 'checkpoints').is_dir() else path
    # Orbax starts threads, which complain where all ends at once.
    if not step_folders(directory):
        raise FileNotFoundError(f'{path} holds no checkpoint')
    with Checkpoints(directory) as checkpoints:
        step = checkpoints.best
        if step is None:
            step = checkpoints.newest
        if step is None:
            raise FileNotFoundError(f'{path} holds no checkpoint')
        averaged = checkpoints.meta(step).get('averaged', False)
        return checkpoints.load(step, average=averaged)


def _comparable(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def _on_host(tree: Any) -> Any:
    """Copies a replicated tree to numpy, which also frees its buffers for donation."""

    def copy(leaf):
        shard = leaf.addressable_shards[0].data if isinstance(leaf, jax.Array) else leaf
        return np.array(shard)

    return jax.tree.map(copy, tree)
