"""Charts of the training, and of what the norms came to hold."""

from collections.abc import Mapping, Sequence

from slimjax.insight.curves import Points
from slimjax.insight.norm_statistics import QUANTITIES, NormStatistics
from slimjax.report.figure import GREY, Figure, colors, figure, plain
from slimjax.width import width_name


def curves(points: Mapping[str, Points], widths: Sequence[str]) -> Figure:
    """Returns errors against epochs.

    Args:
        points: of the widths that were scored.
        widths: all, widest first, so that each has the same colour everywhere.
    """
    traces = [
        {
            'name': plain(name),
            'x': [epoch for epoch, _ in points[name]],
            'y': [100 * error for _, error in points[name]],
            'mode': 'lines+markers' if len(points[name]) < 60 else 'lines',
            'line': {'color': color, 'width': 2},
            'marker': {'size': 4},
            'hovertemplate': 'epoch %{x:.1f}: %{y:.2f} %',
            'meta': {'width': name},
        }
        for name, color in colors(widths).items()
        if name in points
    ]
    y = {'title': 'error, %', 'rangemode': 'tozero'}
    return figure(traces, {'title': 'epoch'}, y)


def discrepancy(norms: NormStatistics) -> Figure:
    """Returns how far the widths disagree in each norm, against its depth."""
    names = [plain(name) for name in norms.values]
    shades = ['#0b6e99', '#d1495b', '#6a994e', '#b58900']
    traces = [
        {
            'name': f'{quantity} ({norms.depth_correlation(quantity):.2f})',
            'x': list(range(1, len(names) + 1)),
            'y': norms.discrepancy(quantity).tolist(),
            'customdata': names,
            'mode': 'lines+markers',
            'line': {'color': shade, 'width': 2},
            'hovertemplate': '%{customdata}: %{y:.3f}',
        }
        for quantity, shade in zip(QUANTITIES, shades, strict=True)
    ]
    x = {'title': 'depth, norms from the images'}
    return figure(traces, x, {'title': 'discrepancy', 'rangemode': 'tozero'})


def norm_channels(
    norms: NormStatistics, norm: str, quantity: str, count: int = 8
) -> Figure:
    """Returns what the first channels of a norm hold at each width, a line a channel.

    Args:
        norms: of the network.
        norm: one of them.
        quantity: one of `QUANTITIES`.
        count: how many channels.
    """
    values = {
        width_name(width): own[quantity][:count]
        for width, own in reversed(norms.values[norm].items())
    }
    lines = [
        {
            'x': [plain(name) for name, own in values.items() if channel < len(own)],
            'y': [float(own[channel]) for own in values.values() if channel < len(own)],
            'mode': 'lines',
            'line': {'color': GREY, 'width': 1.2},
            'hovertemplate': f'channel {channel}: %{{y:.4g}}<extra></extra>',
            'showlegend': False,
        }
        for channel in range(max(map(len, values.values())))
    ]
    shades = colors(list(reversed(values)))
    dots = [
        {
            'x': [plain(name)] * len(own),
            'y': own.astype(float).tolist(),
            'mode': 'markers',
            'marker': {'color': shades[name], 'size': 8},
            'hoverinfo': 'skip',
            'showlegend': False,
            'meta': {'width': name},
        }
        for name, own in values.items()
    ]
    x = {'title': 'width', 'type': 'category'}
    return figure([*lines, *dots], x, {'title': quantity})
