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
from slimjax.whole_file import whole_file
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
        if not 0 <= flags.score <= 1:
            raise ValueError(f'--score={flags.score}; allowed is 0 to 1')
        detector = Detector(flags.workdir, flags.width)
        targets = [_target(path, flags.output, detector) for path in flags.images]
        if twice := [path for path in targets if targets.count(path) > 1]:
            raise ValueError(f'two images would become {twice[0]}')
        inputs = {path.resolve() for path in flags.images}
        if lost := [path for path in targets if path.resolve() in inputs]:
            raise ValueError(f'{lost[0]} is an image to look at; take another --output')
        for path, target in zip(flags.images, targets, strict=True):
            pixels = np.asarray(decode(path.read_bytes(), str(path)))
            results = detector(pixels)
            drawn = draw_results(
                pixels,
                results,
                detector.categories,
                least_score=flags.score,
                least_keypoint_score=detector.least_keypoint_score,
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as temporary:
                drawn.save(temporary, format='png')
            shown = sum(each['score'] >= flags.score for each in results['bbox'])
            print(f'{target}: {shown} objects')


def _target(path: pathlib.Path, output: pathlib.Path | None, detector: Detector):
    name = f'{path.stem}_{width_name(detector.width)}.png'
    return (output or path.parent) / name


if __name__ == '__main__':
    main()
