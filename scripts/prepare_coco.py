r"""Prepares COCO, or any data set in its format, for detection; without TensorFlow.

One call a split, all into one folder:

    python scripts/prepare_coco.py --images=train2017 \
        --instances=annotations/instances_train2017.json \
        --keypoints=annotations/person_keypoints_train2017.json --output=/data/coco

Which split it is, the name of the file of instances says, or --split.
"""

import argparse
import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.data.coco_format.layout import SPLITS
from slimjax.data.coco_format.prepare import prepare_coco


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    path = pathlib.Path
    parser.add_argument('--images', type=path, required=True, help='folder of images')
    parser.add_argument(
        '--instances', type=path, required=True, help='instances_*.json'
    )
    parser.add_argument(
        '--keypoints', type=path, help='person_keypoints_*.json, if there are any'
    )
    parser.add_argument(
        '--output', type=path, required=True, help='folder of all splits'
    )
    parser.add_argument(
        '--split', default='', choices=['', *SPLITS], help="by the file's name"
    )
    return parser.parse_args()


def main() -> None:
    """Runs the command; says what is wrong in a line, without a traceback."""
    flags = parse()
    with readable_mistakes():
        prepared = prepare_coco(
            flags.images,
            flags.instances,
            flags.output,
            keypoints=flags.keypoints,
            split=flags.split,
        )
    if prepared.without_area:
        print(
            f'{len(prepared.without_area)} annotations have no area and were left out, '
            f'such as {prepared.without_area[0]}'
        )
    print(
        f'done: {prepared.images} images, {prepared.objects} objects in '
        f'{prepared.folder}'
    )


if __name__ == '__main__':
    main()
