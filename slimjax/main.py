"""The command line: `python -m slimjax.main --config=FILE[:RECIPE] --workdir=DIR`.

Modes: `train` (the default), `eval` (a trained workdir on a split), `describe` (what
each width costs; needs no data) and `calibrate` (BatchNorm statistics of every width
anew, into WORKDIR/calibrated). `--config.FIELD=VALUE` changes any field.
"""

import shlex
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from slimjax import commands
from slimjax.allocator import keep_freed_memory
from slimjax.command_line import (
    MISTAKES,
    Stop,
    end_for_all,
    outlive_readers,
    say_failures_once,
)
from slimjax.compile_cache import use_compile_cache
from slimjax.config import complete
from slimjax.config_file import expect_changes, load_config
from slimjax.main_flags import check_flags

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    'mode', 'train', ['train', 'eval', 'describe', 'calibrate'], 'What to do.'
)
flags.DEFINE_string('workdir', None, 'Folder of the run.')
flags.DEFINE_enum(
    'split', 'validation', ['train', 'validation', 'test'], 'What --mode=eval reads.'
)
flags.DEFINE_string('json', None, 'Also write the results to this file.')
flags.DEFINE_string(
    'topology', None, 'TPU slice that --mode=describe compiles for, such as v5e:2x2.'
)
flags.DEFINE_bool('distributed', False, "Join a cluster's processes (jax.distributed).")
flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, if not found.')
flags.DEFINE_integer('processes', None, 'Number of processes, if not found.')
flags.DEFINE_integer('process', None, 'Number of this process, if not found.')


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise ValueError(f'{argv[1]!r} is not understood: options start with --')
    check_flags(FLAGS.flag_values_dict())
    logging.set_verbosity(logging.WARNING)
    config = FLAGS.config
    if FLAGS.mode != 'describe':
        keep_freed_memory()
    if 'float64' in (config.dtype, config.param_dtype):
        jax.config.update('jax_enable_x64', True)
    if FLAGS.distributed or FLAGS.coordinator:
        jax.distributed.initialize(FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    use_compile_cache()
    if FLAGS.topology:
        # Asked once, before any compilation: programs of other chips are never read.
        jax.config.update('jax_enable_compilation_cache', False)
    with end_for_all():
        results = run_mode(config)
        if results is not None and FLAGS.json and jax.process_index() == 0:
            commands.write_json(FLAGS.json, results)


def run_mode(config) -> dict | None:
    """Does what `--mode` says; returns the results, if there are any."""
    if FLAGS.mode == 'describe':
        return commands.describe(config, topology=FLAGS.topology)
    if FLAGS.mode == 'eval':
        return commands.evaluate_workdir(config, FLAGS.workdir, FLAGS.split)
    if FLAGS.mode == 'calibrate':
        commands.calibrate_workdir(config, FLAGS.workdir)
        return None
    changed = tuple(config_flags.get_override_values(FLAGS['config']))
    options = {'overridden': changed, 'should_stop': Stop()}
    results = commands.train_workdir(config, FLAGS.workdir, **options)
    if results is None and jax.process_index() == 0:
        print('resume with:', shlex.join([sys.executable, *sys.orig_argv[1:]]))
    return results


def run() -> None:
    """Reads the config, then the flags that change it, and runs `main`."""
    outlive_readers()
    say_failures_once()
    stated = [arg for arg in sys.argv if arg.startswith('--config=')]
    helps = {'--help', '-h', '--helpfull', '--helpshort'} & set(sys.argv)
    try:
        if not stated and not helps:
            raise ValueError('--config=FILE is needed, such as configs/digits.py')
        config = load_config(stated[-1].partition('=')[2]) if stated else complete({})
        expect_changes(config, sys.argv)
        arguments = [arg for arg in sys.argv if arg not in stated]
        config_flags.DEFINE_config_dict('config', config, sys_argv=arguments)
        app.run(main, arguments)
    except MISTAKES as error:
        sys.exit(f'slimjax: {error}')


if __name__ == '__main__':
    run()
