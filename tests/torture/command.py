"""`python -m slimjax.main` within the process of the tests."""

import contextlib
import io
import signal
import sys
import traceback
from typing import NamedTuple
from unittest import mock

import absl.app
from absl import flags
from absl.testing import flagsaver

from slimjax import main


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: its exit status.
        text: all that a person was shown, a traceback included.
    """

    status: int
    text: str


def run_main(*arguments: str) -> Ended:
    """Runs the command line with `arguments`, and leaves flags and signals as before.

    What does not end by SystemExit ends as Python would end it: with a traceback.
    """
    shown = io.StringIO()
    signals = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    saved = flagsaver.save_flag_values()
    try:
        with (
            mock.patch.object(sys, 'argv', ['slimjax/main.py', *arguments]),
            contextlib.redirect_stdout(shown),
            contextlib.redirect_stderr(shown),
            # What is done once in a process is none of the tests' affair.
            mock.patch.object(absl.app._run_init, 'done', True),
            mock.patch.object(main, 'outlive_readers', return_value=None),
            mock.patch.object(main, 'say_failures_once', return_value=None),
        ):
            status = _status(shown)
    finally:
        flagsaver.restore_flag_values(saved)
        flags.FLAGS.unparse_flags()
        for number, handler in signals.items():
            signal.signal(number, handler)
    return Ended(status, shown.getvalue())


def _status(shown: io.StringIO) -> int:
    try:
        main.run()
    except SystemExit as error:
        if isinstance(error.code, str):
            shown.write(error.code)
            return 1
        return error.code or 0
    except BaseException:
        shown.write(traceback.format_exc())
        return 1
    return 0
