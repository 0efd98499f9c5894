r"""Makes a detection data set of handwritten digits, offline, in COCO's format.

    python scripts/make_digit_scenes.py --output=runs/digit_scenes

2,000 scenes to train on and 500 to evaluate on, of 128 x 128 pixels, with masks and
keypoints: COCO's JSON, images, and the records that training reads.
"""

import argparse
import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.data.digit_scenes import COUNTS, make_digit_scenes


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    parser.add_argument('--output', type=pathlib.Path, required=True, help='folder')
    for split, count in COUNTS.items():
        parser.add_argument(
            f'--{split}', type=int, default=count, help='scenes (%(default)s)'
        )
    parser.add_argument('--seed', type=int, default=0, help='decides all (0)')
    return parser.parse_args()


def main() -> None:
    """Runs the command; says what is wrong in a line, without a traceback."""
    flags = parse()
    counts = {split: getattr(flags, split) for split in COUNTS}
    with readable_mistakes():
        prepared = make_digit_scenes(flags.output, counts=counts, seed=flags.seed)
    for each in prepared.values():
        print(f'done: {each.images} images, {each.objects} objects in {each.folder}')


if __name__ == '__main__':
    main()
