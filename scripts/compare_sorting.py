"""What `sort_channels` is worth: the narrow widths of a network that was trained alone.

    python scripts/compare_sorting.py --config=configs/digits.py --seeds=3 --json=FILE

trains the widest alone, makes a slimmable network of it as it is and sorted by each
criterion, and tests every width twice: with its statistics calibrated, no weight
changed, and fine-tuned for --epochs epochs, beside a network that starts anew. An
interrupted comparison goes on where it stopped. --config.FIELD=VALUE changes any field.
"""

import argparse
import pathlib
import shutil
import sys

import jax
import ml_collections

from slimjax import commands
from slimjax.allocator import keep_freed_memory
from slimjax.command_line import Stop, command_parser, provenance, readable_mistakes
from slimjax.compile_cache import use_compile_cache
from slimjax.config_file import change, load_config
from slimjax.data.augment import normalize
from slimjax.insight.table import aligned
from slimjax.sorting import CRITERIA, sort_channels
from slimjax.train.checkpoint import Checkpoints, load_variables
from slimjax.train.loop import train
from slimjax.train.network import build_model
from slimjax.train.report import silent
from slimjax.train.run import Run
from slimjax.variables import split_variables
from slimjax.width import widest, widest_first, width_name

UNSORTED = 'as it is'


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--config', required=True, help='FILE or FILE:RECIPE')
    add('--seeds', type=int, default=3, help='how many (%(default)s)')
    add('--epochs', type=int, default=4, help='of fine-tuning (%(default)s)')
    add('--workdir', type=pathlib.Path, default=pathlib.Path('runs', 'sorting'))
    add('--json', type=pathlib.Path, help='also write the results to this file')
    flags, changes = parser.parse_known_args()
    for name in ('seeds', 'epochs'):
        if getattr(flags, name) < 1:
            parser.error(f'--{name}={getattr(flags, name)}: at least 1 is needed')
    return flags, changes


def main() -> None:
    """Trains what is missing, and reports."""
    flags, changes = parse()
    keep_freed_memory()
    with readable_mistakes():
        config = load_config(flags.config)
        change(config, changes)
        # Calibration needs a scale and bias for every width.
        config.update(norm='shared_affine', calibration='sequential')
        use_compile_cache()
        stop, top1 = Stop(), {}
        for seed in range(flags.seeds):
            of_seed = compared(config, seed, flags.workdir / str(seed), flags, stop)
            for key, scores in of_seed.items():
                top1.setdefault(key, []).append(scores)
        rows = [['', '', *names(config)]]
        for (start, stage), scores in top1.items():
            means = [sum(each) / len(scores) for each in zip(*scores, strict=True)]
            rows.append([start, stage, *(f'{100 * mean:.2f}' for mean in means)])
        if flags.json:
            named = {', '.join(key): scores for key, scores in top1.items()}
            facts = {'widths': names(config), 'epochs': flags.epochs}
            commands.write_json(flags.json, {**provenance(), **facts, 'top1': named})
    print('\n'.join(aligned(rows)))


def compared(config, seed, workdir, flags, stop):
    """Returns test top-1 of every width, by what it started from and how."""
    config = ml_collections.ConfigDict(config)
    config.seed = seed
    wide = ml_collections.ConfigDict(config)
    wide.widths = (widest(build_model(config).widths),)
    trained(wide, workdir / 'wide', stop)
    tuned = ml_collections.ConfigDict(config)
    tuned.update(train_epochs=flags.epochs, warmup_epochs=1)
    tuned.update(eval_epochs=flags.epochs, checkpoint_epochs=flags.epochs)
    made(Run(wide), workdir)
    found = {}
    for start in (UNSORTED, *CRITERIA):
        source = folder(workdir, start)
        if not has_weights(source / 'calibrated'):
            commands.calibrate_workdir(config, source, say=silent)
        found[start, 'calibrated'] = tested(config, source / 'calibrated')
        tuned.init_from = str(source)
        trained(tuned, source / 'tuned', stop)
        found[start, 'fine-tuned'] = tested(config, source / 'tuned')
    tuned.init_from = ''
    trained(tuned, workdir / 'anew', stop)
    found['anew', 'fine-tuned'] = tested(config, workdir / 'anew')
    return found


def trained(config, workdir, stop) -> None:
    """Trains, or goes on."""
    done = train(config, workdir, should_stop=stop, say=silent, test=False)
    # Programs of a network that is done take memory maps, of which there are few.
    jax.clear_caches()
    if done is None:
        sys.exit('stopped and saved: the same command goes on')
    print(f'trained: {workdir}', file=sys.stderr, flush=True)


def has_weights(workdir) -> bool:
    """Says whether a workdir has a checkpoint; what an interruption left there goes."""
    try:
        load_variables(workdir)
    except FileNotFoundError:
        shutil.rmtree(workdir, ignore_errors=True)
        return False
    return True


def made(run, workdir) -> None:
    """Writes the weights of the wide network as they are, and sorted each way."""
    missing = [
        start
        for start in (UNSORTED, *CRITERIA)
        if not has_weights(folder(workdir, start))
    ]
    if not missing:
        return
    checkpoint = load_variables(workdir / 'wide')
    found = {'params': checkpoint.params, **checkpoint.stats}
    reader = run.train_reader(0)
    batch = next(reader)
    reader.close()
    pixels = normalize(batch['image'], run.config.mean, run.config.std)
    batch = {'image': pixels, 'label': batch['label']}
    model = run.model.clone(axis_name=None)
    for start in missing:
        variables = found
        if start != UNSORTED:
            variables = sort_channels(model, found, start, batch=batch)
        with Checkpoints(folder(workdir, start) / 'checkpoints') as writer:
            writer.save_weights(*split_variables(variables), checkpoint.meta)
            writer.wait()


def folder(workdir, start) -> pathlib.Path:
    """Returns the workdir of a start."""
    return workdir / start.replace(' ', '_')


def names(config) -> list[str]:
    """Returns the widths' names, widest first."""
    return list(map(width_name, widest_first(build_model(config).widths)))


def tested(config, workdir) -> list[float]:
    """Returns the test top-1 of every width."""
    results = commands.evaluate_workdir(config, workdir, 'test', say=silent)
    return [results['widths'][name]['top1'] for name in names(config)]


if __name__ == '__main__':
    main()
