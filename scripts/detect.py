"""Finds the objects on images with a trained detector, and draws them.

    python scripts/detect.py street.jpg --workdir=runs/mask_rcnn --width=0.25

Boxes, masks or skeletons, labels and scores are drawn onto street_0.25.png, beside the
image or in --output. The data of the run need not be there.
"""

import argparse
import pathlib

import numpy as np

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.data.decode import decode
from slimjax.detection.detecting import Detector
from slimjax.detection.drawing import draw_results
from slimjax.width import width_name


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('images', nargs='+', type=pathlib.Path, metavar='IMAGE', help='JPEG or PNG')
    add('--workdir', required=True, type=pathlib.Path, help='of a trained detector')
    add('--width', type=float, help='of the backbone (the widest)')
    add('--score', type=float, default=0.5, help='of what is drawn (%(default)s)')
    add('--output', type=pathlib.Path, help='folder (that of each image)')
    return parser.parse_args()


def main() -> None:
    """Runs the command; says what is wrong in a line, without a traceback."""
    flags = parse()
    with readable_mistakes():
        detector = Detector(flags.workdir, flags.width)
        for path in flags.images:
            pixels = np.asarray(decode(path.read_bytes(), str(path)))
            results = detector(pixels)
            drawn = draw_results(
                pixels,
                results,
                detector.categories,
                least_score=flags.score,
                least_keypoint_score=detector.least_keypoint_score,
            )
            folder = flags.output or path.parent
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / f'{path.stem}_{width_name(detector.width)}.png'
            drawn.save(target)
            shown = sum(each['score'] >= flags.score for each in results['bbox'])
            print(f'{target}: {shown} objects')


if __name__ == '__main__':
    main()
