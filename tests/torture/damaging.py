"""What disks do to files, and a small state to do it to."""

import os
import pathlib
import random

import numpy as np

from slimjax.train.state import TrainState

FAULTS = {
    'a file cut short': lambda data, rng: data[: rng.randrange(len(data))],
    'a bit flipped': lambda data, rng: flipped(data, rng),
    'a file emptied': lambda data, rng: b'',
    'a file missing': lambda data, rng: None,
}


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damage(file: pathlib.Path, fault: str, rng: random.Random) -> None:
    data = FAULTS[fault](file.read_bytes(), rng)
    file.unlink()
    if data is not None:
        file.write_bytes(data)


def state(step: int) -> TrainState:
    """A state all of whose numbers are of its step."""
    numbers = np.random.default_rng(step).normal(size=(60, 50)).astype(np.float32)
    return TrainState(
        step=np.int32(step),
        params={'layer': {'kernel': numbers}},
        stats={'batch_stats_1.0': {'norm': {'mean': numbers[0]}}},
        opt_state={'trace': numbers},
        average=None,
        sums={'count': np.float32(step)},
    )


def files_of(workdir: pathlib.Path, step: int) -> list[pathlib.Path]:
    folder = workdir / 'checkpoints' / str(step)
    return sorted(path for path in folder.rglob('*') if path.is_file())


def fill(folder: pathlib.Path, left: int) -> pathlib.Path:
    """Fills a file system up to so many bytes."""
    file = folder / 'filling'
    file.unlink(missing_ok=True)
    free = os.statvfs(folder)
    file.write_bytes(b'x' * (free.f_bavail * free.f_frsize - left))
    return file
