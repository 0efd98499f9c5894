"""From a source of labelled images to batches of them; see `slimjax.data.stream`."""

import hashlib
import json
import math
from functools import partial

from slimjax.data.examples import (
    BadImagesError,
    Decoder,
    EvalExample,
    Format,
    TrainExample,
)
from slimjax.data.resize import Augmentation, center_crop
from slimjax.data.sources import Source
from slimjax.data.stream import ALONE, Batches, Reading, dealt, each_once, shuffled

__all__ = [
    'Augmentation',
    'BadImagesError',
    'Batches',
    'Format',
    'Reading',
    'eval_batches',
    'fingerprint',
    'train_batches',
]

_DEFAULT_AUGMENTATION = Augmentation()


def train_batches(
    source: Source,
    format: Format,
    *,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    augmentation: Augmentation = _DEFAULT_AUGMENTATION,
    reading: Reading = ALONE,
    bad_image_limit: int = 0,
) -> Batches:
    """Returns this process's part of an endless stream of shuffled batches.

    A broken image is replaced by the one behind it in the source, named in the log and
    counted.

    Args:
        source: the examples.
        format: of the images.
        batch_size: examples in a batch of all processes together.
        seed: decides order and augmentation.
        start_step: number of batches to pass over, at no cost.
        augmentation: how images are cut out.
        reading: who reads what.
        bad_image_limit: so many different broken images are put up with.

    Returns:
        An iterator over `{'image': uint8 [examples, size, size, channels], 'label':
        int32 [examples]}`, to be closed.

    Raises:
        BadImagesError: while iterating, too many broken images.

    Example:
        >>> from slimjax.data.sources import load_source
        >>> source = load_source('synthetic', 'train')
        >>> batches = train_batches(source, Format(32), batch_size=4)
        >>> next(batches)['image'].shape
        (4, 32, 32, 3)
        >>> batches.close()
    """
    size, cut = format.image_size, None
    if not augmentation.crop_scale:
        # What is drawn comes behind it, so it need not be done for every epoch.
        cut = partial(center_crop, size=size, resize=size)
    decoder = Decoder(source, format, keep=not reading.num_workers, cut=cut)
    make = TrainExample(decoder, len(source), size, augmentation)
    examples = shuffled(len(source), seed).repeat().random_map(make)
    batches = dealt(examples, batch_size, reading, start_step)
    return Batches(batches, reading, decoder, bad_image_limit)


def eval_batches(
    source: Source,
    format: Format,
    *,
    batch_size: int,
    resize: int,
    reading: Reading = ALONE,
    bad_image_limit: int = 0,
) -> Batches:
    """Returns this process's part of all examples, each once, in order.

    Args:
        source: the examples.
        format: of the images.
        batch_size: examples in a batch of all processes together; the last is filled
            up with blanks.
        resize: shorter side before the centre crop, in pixels.
        reading: who reads what.
        bad_image_limit: so many broken images are put up with; they are named in the
            log and masked out.

    Returns:
        An iterator over batches as of `train_batches`, with `mask`: float32
        `[examples]`, 1 for an example and 0 for a blank.

    Example:
        >>> from slimjax.data.sources import load_source
        >>> source = load_source('synthetic', 'test')
        >>> batches = eval_batches(source, Format(32), batch_size=500, resize=32)
        >>> [int(batch['mask'].sum()) for batch in batches]
        [500, 12]
    """
    decoder = Decoder(source, format)
    make = EvalExample(decoder, len(source), format, resize)
    count = math.ceil(len(source) / batch_size) * batch_size
    batches = dealt(each_once(count, make), batch_size, reading)
    return Batches(batches, reading, decoder, bad_image_limit)


def fingerprint(source: Source, seed: int) -> str:
    """Returns a hash that tells whether a run would go on with the same data.

    It changes with the number of examples, the classes, the order that this version of
    grain gives them, and the content of the first few.

    Args:
        source: the training examples.
        seed: of the run.

    Returns:
        32 hexadecimal digits, the same on every machine.

    Example:
        >>> from slimjax.data.sources import load_source
        >>> len(fingerprint(load_source('synthetic', 'train'), seed=0))
        32
    """
    order = shuffled(len(source), seed)
    first = [int(order[i]) for i in range(min(256, len(source)))]
    facts = {'examples': len(source), 'classes': source.class_names, 'order': first}
    digest = hashlib.md5(json.dumps(facts).encode())
    for index in first[:16]:
        try:
            example = source[index]
        except OSError:
            continue  # A broken example is dealt with when it is read in earnest.
        pixels = example.image
        digest.update(pixels if isinstance(pixels, bytes) else pixels.tobytes())
        digest.update(str(example.label).encode())
    return digest.hexdigest()
