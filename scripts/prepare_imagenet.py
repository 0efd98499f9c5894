r"""Prepares ImageNet for training, or converts a TFDS data set; without TensorFlow.

From folders, or from the official archives:

    python scripts/prepare_imagenet.py --train /data/train --val /data/val
    python scripts/prepare_imagenet.py --train ILSVRC2012_img_train.tar \
        --val ILSVRC2012_img_val.tar --val_labels ILSVRC2012_devkit_t12.tar.gz

From a set that TFDS prepared as TFRecord, as the machines of TPU users often have it:

    python scripts/prepare_imagenet.py --convert /tfds/imagenet2012/5.1.0 \
        --data_dir /data/tfds

An interrupted command goes on where it stopped when it is given again.
"""

import argparse
import os
import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.data.catalogue import tfds_dir
from slimjax.data.convert import convert
from slimjax.data.prepare import NUM_TRAIN, NUM_VAL, prepare_imagenet


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    path = pathlib.Path
    parser.add_argument('--train', type=path, help='folder train/<wnid>/*, or the tar')
    parser.add_argument('--val', type=path, help='folder val/<wnid>/* or val/*, or tar')
    parser.add_argument(
        '--val_labels', type=path, help='the devkit, or a text file of WordNet ids'
    )
    parser.add_argument('--convert', type=path, help='folder of a set in TFRecord')
    parser.add_argument(
        '--data_dir', type=path, default=tfds_dir(), help='output (%(default)s)'
    )
    parser.add_argument(
        '--short_side', type=int, default=0, help='shrink to so many pixels (off)'
    )
    parser.add_argument(
        '--num_train', type=int, default=NUM_TRAIN, help='images expected (%(default)s)'
    )
    parser.add_argument(
        '--num_val', type=int, default=NUM_VAL, help='images expected (%(default)s)'
    )
    parser.add_argument(
        '--num_workers',
        type=int,
        default=os.cpu_count(),
        help='processes (%(default)s)',
    )
    flags = parser.parse_args()
    if bool(flags.convert) == bool(flags.train and flags.val):
        parser.error('set either --train and --val, or --convert')
    return flags


def main() -> None:
    """Runs the command; says what is wrong in a line, without a traceback."""
    flags = parse()
    with readable_mistakes():
        if flags.convert:
            print(f'done: {convert(flags.convert, flags.data_dir)}')
            return
        summary = prepare_imagenet(
            flags.train,
            flags.val,
            flags.data_dir,
            val_labels=flags.val_labels,
            short_side=flags.short_side,
            num_train=flags.num_train,
            num_val=flags.num_val,
            num_workers=flags.num_workers,
        )
    print(f'{len(summary.repaired)} images were encoded anew')
    for line in summary.broken:
        print(f'left out: {line}')
    print(f'done: {summary.folder}')


if __name__ == '__main__':
    main()
