"""Prepares scikit-learn's 1,797 handwritten digits as ArrayRecord, no TensorFlow.

TFDS wants a builder in a package of its own, in a file of this name.
"""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from slimjax.data.stratified import stratified_parts

SPLITS = {'train': 1197, 'validation': 240, 'test': 360}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Grey images of 8 x 8 px, ten classes (Alpaydin and Kaynak, 1998)."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(
                        shape=(8, 8, 1), encoding_format='png'
                    ),
                    'label': tfds.features.ClassLabel(
                        names=[str(d) for d in range(10)]
                    ),
                    'id': tfds.features.Scalar(np.int64),
                }
            ),
            supervised_keys=('image', 'label'),
        )

    def _split_generators(self, _):
        digits = all_digits()
        return {
            name: self._generate_examples(digits, indices)
            for name, indices in split_indices(digits.target).items()
        }

    def _generate_examples(self, digits, indices):
        for index in indices:
            # 17 levels of ink become 0..255.
            pixels = (digits.images[index] * (255 / 16)).round().astype(np.uint8)
            yield (
                int(index),
                {
                    'image': Image.fromarray(pixels),
                    'label': int(digits.target[index]),
                    'id': int(index),
                },
            )


def split_indices(labels: np.ndarray) -> dict[str, list[int]]:
    """Returns the places of each split's examples in scikit-learn's list.

    The list is roughly ordered by writer: it is shuffled by a hash of the place, and
    classes are dealt to the splits in proportion.

    Example:
        >>> [len(part) for part in split_indices(np.arange(1797) % 10).values()]
        [1197, 240, 360]
    """
    parts = stratified_parts(labels, tuple(SPLITS.values()))
    return dict(zip(SPLITS, parts, strict=True))


def all_digits():
    """Returns scikit-learn's digits: `images` and `target`, what each is.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError(
            "the digits come with scikit-learn: pip install 'slimjax[demo]'"
        ) from None
    return load_digits()
