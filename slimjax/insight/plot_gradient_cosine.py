"""Cosines of the widths' gradients as a picture: by epoch, and by layer."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from slimjax.insight.plot import new_figure, save_png
from slimjax.insight.plot_naive import width_color


def plot_gradient_cosine(
    cosines: Mapping[str, Any], path: str | pathlib.Path, title: str = ''
) -> None:
    """Draws the mean cosine of each pair of widths, and each layer's of the ends.

    Args:
        cosines: `epochs`, and `layers`: by pair `'WIDE/NARROW'` and layer, one number
            for each epoch.
        path: a PNG file, written whole or not at all.
        title: stands above the plot.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> layers = {'1.0/0.5': {'stem': [0.9, 0.5], 'classifier': [0.7, 0.6]}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, 'cosines.png')
        ...     plot_gradient_cosine({'epochs': [1, 2], 'layers': layers}, path)
    """
    epochs, pairs = cosines['epochs'], cosines['layers']
    figure = new_figure((11, 4.2), dpi=100)
    lines, image = figure.subplots(1, 2, width_ratios=(1, 1.25))
    for number, (pair, layers) in enumerate(pairs.items()):
        lines.plot(
            epochs,
            np.mean(list(layers.values()), 0),
            label=pair.replace('/', ' and '),
            color=width_color(number, len(pairs)),
            linewidth=1.6,
            marker='.',
        )
    lines.axhline(0, color='#555555', linewidth=0.9)
    lines.set_xlabel('epoch')
    lines.set_ylabel('cosine of the gradients, mean over layers')
    lines.grid(alpha=0.25, linewidth=0.6)
    lines.spines[['top', 'right']].set_visible(False)
    lines.legend(
        frameon=False,
        fontsize=8,
        ncols=3,
        loc='lower center',
        bbox_to_anchor=(0.5, 1),
    )
    ends = max(pairs, key=_distance)
    drawn = image.imshow(
        list(pairs[ends].values()),
        aspect='auto',
        cmap='RdBu',
        vmin=-1,
        vmax=1,
        interpolation='nearest',
    )
    image.set_yticks(range(len(pairs[ends])), list(pairs[ends]), fontsize=7.5)
    image.set_xticks(range(len(epochs)), [f'{epoch:.0f}' for epoch in epochs])
    image.tick_params(length=0)
    image.set_xlabel('epoch')
    image.set_title(f'widths {ends.replace("/", " and ")}', fontsize=10)
    figure.colorbar(drawn, ax=image)
    figure.suptitle(title)
    save_png(figure, pathlib.Path(path))


def _distance(pair: str) -> float:
    wide, narrow = map(float, pair.split('/'))
    return wide - narrow
