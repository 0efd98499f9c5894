"""The command line: `python -m slimjax.main --config=FILE[:RECIPE] --workdir=DIR`.

Modes: `train` (the default), `eval` (a trained workdir on a split) and `describe`
(what each width costs; needs no data). `--config.FIELD=VALUE` changes any field.
"""

import importlib.util
import pathlib
import shlex
import signal
import sys

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from slimjax import commands
from slimjax.config import FIELDS, complete, state_model_field, unknown_field
from slimjax.train.loop import NonFiniteLossError

FLAGS = flags.FLAGS
flags.DEFINE_enum('mode', 'train', ['train', 'eval', 'describe'], 'What to do.')
flags.DEFINE_string('workdir', None, 'Folder of the run.')
flags.DEFINE_enum(
    'split', 'validation', ['train', 'validation', 'test'], 'What --mode=eval reads.'
)
flags.DEFINE_string('json', None, 'Also write the results to this file.')
flags.DEFINE_bool('distributed', False, "Join a cluster's processes (jax.distributed).")
flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, if not found.')
flags.DEFINE_integer('processes', None, 'Number of processes, if not found.')
flags.DEFINE_integer('process', None, 'Number of this process, if not found.')

# What a user can mend: one line, no traceback.
MISTAKES = (ValueError, FileNotFoundError, ImportError, NonFiniteLossError)


class Stop:
    """Turns SIGTERM and Ctrl-C into a request; the second one ends at once."""

    def __init__(self):
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def _ask(self, number, _frame):
        self._asked = True
        signal.signal(number, signal.SIG_DFL)
        print('saving after this step; once more ends at once', file=sys.stderr)


def load_config(argument: str) -> ml_collections.ConfigDict:
    """Returns the complete config of `FILE` or `FILE:RECIPE`."""
    path, _, recipe = argument.partition(':')
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f'--config={argument}: there is no file {path!r}')
    spec = importlib.util.spec_from_file_location('config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return complete(module.get_config(*([recipe] if recipe else [])))


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f'{argv[1]!r} is not understood: options start with --')
    logging.set_verbosity(logging.WARNING)
    config = FLAGS.config
    if 'float64' in (config.dtype, config.param_dtype):
        jax.config.update('jax_enable_x64', True)
    if FLAGS.distributed or FLAGS.coordinator:
        jax.distributed.initialize(FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    if FLAGS.mode != 'describe' and not FLAGS.workdir:
        raise app.UsageError(f'--mode={FLAGS.mode} needs --workdir=DIR')
    if FLAGS.mode == 'describe':
        results = commands.describe(config)
    elif FLAGS.mode == 'eval':
        results = commands.evaluate_workdir(config, FLAGS.workdir, FLAGS.split)
    else:
        changed = config_flags.get_override_values(FLAGS['config'])
        results = commands.train_workdir(
            config, FLAGS.workdir, overridden=tuple(changed), should_stop=Stop()
        )
        if results is None and jax.process_index() == 0:
            print('resume with:', shlex.join([sys.executable, *sys.orig_argv[1:]]))
    if results is not None and FLAGS.json and jax.process_index() == 0:
        commands.write_json(FLAGS.json, results)


def _fields_changed(arguments: list[str]) -> list[str]:
    names = (
        arg.removeprefix('--config.')
        for arg in arguments
        if arg.startswith('--config.')
    )
    return [name.partition('=')[0] for name in names]


def _model(config: ml_collections.ConfigDict, arguments: list[str]) -> str:
    """The model that a config will have once the command line has changed it."""
    flag = '--config.model='
    chosen = [arg.removeprefix(flag) for arg in arguments if arg.startswith(flag)]
    return chosen[-1] if chosen else config.model


def run() -> None:
    """Reads the config, then the flags that change it, and runs `main`."""
    stated = [arg for arg in sys.argv if arg.startswith('--config=')]
    helps = {'--help', '-h', '--helpfull', '--helpshort'} & set(sys.argv)
    try:
        if not stated and not helps:
            raise ValueError('--config=FILE is needed, such as configs/digits.py')
        config = load_config(stated[-1].partition('=')[2]) if stated else complete({})
        for name in _fields_changed(sys.argv):
            first, _, rest = name.partition('.')
            if first not in FIELDS:
                raise ValueError(unknown_field(first))
            if first == 'model_fields':
                state_model_field(config, _model(config, sys.argv), rest)
        arguments = [arg for arg in sys.argv if arg not in stated]
        config_flags.DEFINE_config_dict('config', config, sys_argv=arguments)
        app.run(main, arguments)
    except MISTAKES as error:
        sys.exit(f'slimjax: {error}')


if __name__ == '__main__':
    run()
