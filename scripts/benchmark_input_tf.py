"""The `tf.data` pipelines that `benchmark_input.py` compares with.

It is started there, by a Python that has TensorFlow and needs nothing else: it reads
a list of files with their crops, and answers each line `<kind> <batches>` when it has
made so many batches.
"""

import json
import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import tensorflow as tf

FEATURES = {
    'image': tf.io.FixedLenFeature([], tf.string),
    'label': tf.io.FixedLenFeature([], tf.int64),
    'crop': tf.io.FixedLenFeature([4], tf.int64),
}


def main(listing: str, size: int, batch: int) -> None:
    path = f'{listing}.tfrecord'
    write_records(listing, path)
    batches = {
        kind: iter(pipeline(path, size, batch, antialias=kind == 'antialiased'))
        for kind in ('antialiased', 'aliased')
    }
    for each in batches.values():
        next(each)
    print('ready', flush=True)
    for line in sys.stdin:
        kind, count = line.split()
        for _ in range(int(count)):
            next(batches[kind])
        print('done', flush=True)


def write_records(listing: str, path: str) -> None:
    """Writes files and crops as TFRecord."""
    with open(listing) as file:
        crops = json.load(file)
    with tf.io.TFRecordWriter(path) as writer:
        for name, *crop in crops:
            with open(name, 'rb') as file:
                image = tf.train.BytesList(value=[file.read()])
            feature = {
                'image': tf.train.Feature(bytes_list=image),
                'label': tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
                'crop': tf.train.Feature(int64_list=tf.train.Int64List(value=crop)),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def pipeline(path: str, size: int, batch: int, *, antialias: bool) -> tf.data.Dataset:
    """Decodes no more than the crop, as TensorFlow's own examples do."""

    def example(record):
        values = tf.io.parse_single_example(record, FEATURES)
        crop = tf.cast(values['crop'], tf.int32)
        image = tf.image.decode_and_crop_jpeg(values['image'], crop, channels=3)
        image = tf.image.resize(image, (size, size), antialias=antialias)
        image = tf.image.random_flip_left_right(image)
        # The bilinear filter does not leave 0..255.
        return tf.cast(tf.round(image), tf.uint8), values['label']

    return (
        tf.data.TFRecordDataset(path)
        .repeat()
        .shuffle(256)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
