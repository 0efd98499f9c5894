"""The paper's Figure 3: the images that a channel answers to most, at every width.

    python scripts/channels.py --workdir=runs/digits --list
    python scripts/channels.py --workdir=runs/digits --layer=stage1_block1/conv2 \\
        --channel=2 --plot=channel.png

draws a row of images a width, in green frames where that width classifies them right
and in red ones where it does not, with what the maximum sees (its receptive field)
beside each and the row's mean colour in front; and prints how much the widths have in
common: the overlap of their top images (Jaccard), and the rank correlation of all
scores.
--config.FIELD=VALUE changes a field of the run, such as another data_dir.
"""

import argparse
import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.compile_cache import use_compile_cache
from slimjax.insight.activations import SCORES, find_layers, layer_lines
from slimjax.insight.plot_top_images import plot_top_images
from slimjax.insight.top_images import top_images
from slimjax.train.trained import open_run


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the changes of the config."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--workdir', required=True, type=pathlib.Path, help='of a run')
    add('--list', action='store_true', help='print the layers and end')
    add('--layer', help='one of those that --list prints')
    add('--channel', type=int, default=0, help='its number (%(default)s)')
    add('--score', choices=SCORES, default='max', help='over space (%(default)s)')
    add(
        '--split',
        choices=['train', 'validation', 'test'],
        default='validation',
        help='whose images (%(default)s)',
    )
    add('--count', type=int, default=10, help='images a row (%(default)s)')
    add('--plot', type=pathlib.Path, help='a PNG file (WORKDIR/channel_...png)')
    add('--title', help='above the picture')
    flags, changes = parser.parse_known_args()
    if not flags.list and not flags.layer:
        parser.error('--layer is needed; --list prints what there is')
    if flags.count < 1:
        parser.error(f'--count={flags.count}: at least 1 is needed')
    return flags, changes


def main() -> None:
    """Lists layers, or draws one channel."""
    flags, changes = parse()
    use_compile_cache()
    with readable_mistakes():
        trained = open_run(flags.workdir, changes)
        if flags.list:
            shape = trained.run.image_shape
            layers = find_layers(trained.model, trained.variables, shape)
            print('\n'.join(layer_lines(layers)))
            return
        found = top_images(
            trained,
            flags.layer,
            flags.channel,
            split=flags.split,
            by=flags.score,
            count=flags.count,
        )
        name = f'channel_{flags.layer.replace("/", "-")}_{flags.channel}.png'
        plot = flags.plot or flags.workdir / name
        title = flags.title or (
            f'{flags.layer}, channel {flags.channel}: top {flags.count} of '
            f'{found.images:,} {flags.split} images by {flags.score} over space'
        )
        plot_top_images(found, plot, title)
    print('\n'.join(found.lines()))
    print(f'plot: {plot}')


if __name__ == '__main__':
    main()
