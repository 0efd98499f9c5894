"""What all commands share: how they read flags, fail and are stopped."""

import argparse
import contextlib
import io
import logging
import os
import pathlib
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import jax

from slimjax.benchmark.device import device_name
from slimjax.train.loop import NonFiniteLossError
from slimjax.train.report import git_commit

# What a user can mend: one line, no traceback.
MISTAKES = (ValueError, OSError, ImportError, NonFiniteLossError)


# Seconds in which others may say what is wrong too: they end with process 0.
_LAST_WORDS = 2.0


class Stop:
    """Turns SIGTERM and Ctrl-C into a request; the second one ends at once.

    So does the end of the terminal (SIGHUP), unless `nohup` told to outlive it.
    """

    def __init__(self):
        self._asked = False
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def _ask(self, number, _frame):
        self._asked = True
        signal.signal(number, signal.SIG_DFL)
        print('saving after this step; once more ends at once', file=sys.stderr)


class _Lenient(io.FileIO):
    def write(self, data):
        try:
            return super().write(data)
        except OSError:
            return len(data)


@contextlib.contextmanager
def end_for_all() -> Iterator[None]:
    """Ends this process at once where it fails and is one of several.

    On its way out it would wait for the others, which wait for it in the middle of a
    step, for minutes. So they notice in a second, and say what to do.
    """
    try:
        yield
    except Exception as error:
        number, count = jax.process_index(), jax.process_count()
        if count == 1:
            raise
        told = str(error).partition('\n')[0]
        if any(isinstance(each, jax.errors.JaxRuntimeError) for each in _causes(error)):
            told += (
                '; if another process was lost, run the same command again on all '
                'hosts: it goes on from the last checkpoint'
            )
        elif not isinstance(error, MISTAKES):
            traceback.print_exc()
        print(f'slimjax: process {number} of {count}: {told}', file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        if number == 0:
            time.sleep(_LAST_WORDS)
        os._exit(1)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def outlive_readers() -> None:
    """Lets this process go on where nobody reads what it prints any more.

    `python -m slimjax.main ... | head`, a closed terminal or a full disk below a log
    would otherwise end a training of days at its next line; what counts stands in the
    workdir. Lines are passed on at once, to pipes and files too.
    """
    for name, number in (('stdout', 1), ('stderr', 2)):
        given = getattr(sys, name)
        if given is None:
            # Closed from the start: the next file to be opened would get its number.
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        file = io.BufferedWriter(_Lenient(number, 'w', closefd=False))
        stream = io.TextIOWrapper(
            file,
            encoding=given and given.encoding,
            errors='backslashreplace',
            line_buffering=True,
        )
        setattr(sys, name, stream)


def say_failures_once() -> None:
    """Lets no other package print what this process will say of a failure itself.

    What cannot be written is raised where a checkpoint is waited for. Below orbax it is
    printed as well: by absl from the thread that writes, and of each array by asyncio,
    or as the end of an event loop that was closed meanwhile.
    """
    # Importing orbax gave the root logger a handler: with absl's, lines came twice.
    logging.root.handlers.clear()
    for name in ('absl', 'asyncio'):
        logging.getLogger(name).addFilter(lambda record: not record.exc_info)
    everywhere = sys.unraisablehook

    def in_main_thread(failure):
        if threading.current_thread() is threading.main_thread():
            everywhere(failure)

    sys.unraisablehook = in_main_thread


def command_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser of a command's flags, whose help is its module's docstring.

    Flags are not abbreviated: `--config.FIELD=VALUE`, for `parse_known_args`, might be
    taken for one.

    Args:
        description: shown as it is by `--help`.

    Example:
        >>> command_parser('Draws.').parse_known_args(['--config.seed=1'])[1]
        ['--config.seed=1']
    """
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def given_command() -> str:
    """Returns the command that runs, as results state it.

    Example:
        >>> given_command().startswith('python ')
        True
    """
    return shlex.join(['python', *sys.argv])


def provenance() -> dict[str, str]:
    """Returns where a result comes from: its command, commit and machine.

    Example:
        >>> sorted(provenance())
        ['command', 'device', 'git_commit']
    """
    return {
        'command': given_command(),
        'git_commit': git_commit(),
        'device': device_name(),
    }


@contextlib.contextmanager
def readable_mistakes() -> Iterator[None]:
    """Ends the command with one line where what a user can mend went wrong.

    Raises:
        SystemExit: one of `MISTAKES` was raised; with status 1, and the command's name.

    Example:
        >>> import pytest
        >>> with pytest.raises(SystemExit, match='batch_size=0'), readable_mistakes():
        ...     raise ValueError('batch_size=0; at least 1 is needed')
    """
    try:
        yield
    except MISTAKES as error:
        sys.exit(f'{pathlib.Path(sys.argv[0]).stem}: {error}')
