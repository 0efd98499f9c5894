"""The charts of a report, as figures of plotly.

A figure is a plain dictionary, which plotly.js draws in the page. What belongs to one
width says so in its trace's `meta`: the page makes it stand out while that width is
chosen, and hides it otherwise where `only` is set. Text of the data is escaped, as
plotly takes tags for mark-up.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slimjax.insight.curves import Points
from slimjax.insight.norm_statistics import QUANTITIES, NormStatistics
from slimjax.insight.predictions import Predictions, class_accuracy, confusion
from slimjax.insight.table import format_count
from slimjax.width import width_name

Figure = dict[str, Any]

# More classes than that are not drawn: those with the most errors are.
MOST_CLASSES = 30
# In cells of up to so many classes there is room for numbers.
_NUMBERED_CLASSES = 15
_LABEL_LENGTH = 16
# Readable on light and on dark.
_GREY = '#8a8f98'
# From this ratio of multiply-adds on, their axis is logarithmic.
_LOG_RATIO = 4


def plain(text: str) -> str:
    """Returns text that plotly shows as it is.

    Example:
        >>> plain('<b>cat</b>')
        '&lt;b&gt;cat&lt;/b&gt;'
    """
    return html.escape(text, quote=False)


def short(text: str) -> str:
    """Returns a name that fits beside an axis, escaped.

    Example:
        >>> short('a' * 20)
        'aaaaaaaaaaaaaaa…'
    """
    if len(text) > _LABEL_LENGTH:
        text = text[: _LABEL_LENGTH - 1] + '…'
    return plain(text)


def colors(widths: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each width, from blue (the widest) to orange.

    Example:
        >>> colors(['1.0', '0.5'])
        {'1.0': 'hsl(215, 70%, 52%)', '0.5': 'hsl(25, 70%, 52%)'}
    """
    hues = np.linspace(215, 25, len(widths)) if len(widths) > 1 else [215]
    return {
        name: f'hsl({hue:.0f}, 70%, 52%)'
        for name, hue in zip(widths, hues, strict=True)
    }


def accuracy(
    costs: Mapping[str, Any], individual: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Returns accuracy against multiply-adds.

    Args:
        costs: `{'widths': {'0.25': {'macs', 'top1'}}}`.
        individual: `macs` and `top1` of networks that were trained alone.
    """
    widths = costs['widths']
    traces = [_accuracy_line('slimmable', widths, 'solid', 'circle')]
    if individual:
        ordered = sorted(individual.items(), key=lambda item: item[1]['macs'])
        alone = _accuracy_line('trained alone', dict(ordered), 'dash', 'diamond')
        traces.append(alone)
    for name, color in colors(list(widths)).items():
        own = widths[name]
        traces.append(
            {
                'x': [own['macs']],
                'y': [100 * own['top1']],
                'mode': 'markers+text',
                'text': [plain(name)],
                'textposition': 'top center',
                'marker': {'size': 13, 'color': color},
                'hoverinfo': 'skip',
                'showlegend': False,
                'cliponaxis': False,
                'meta': {'width': name},
            }
        )
    macs = [own['macs'] for own in widths.values()]
    x = {
        'title': 'multiply-adds an image',
        'type': 'log' if max(macs) > _LOG_RATIO * min(macs) else 'linear',
        'tickmode': 'array',
        'tickvals': macs,
        'ticktext': [format_count(number) for number in macs],
    }
    scores = [own['top1'] for own in (*widths.values(), *individual.values())]
    low, high = 100 * min(scores), 100 * max(scores)
    # A network that is right about everything is not spread over the whole height.
    spread = max(high - low, 1)
    y = {
        'title': 'top-1 accuracy, %',
        'range': [low - 0.25 * spread, high + 0.3 * spread],
    }
    return _figure(traces, x, y)


def _accuracy_line(name: str, widths, dash: str, symbol: str) -> dict[str, Any]:
    return {
        'name': plain(name),
        'x': [own['macs'] for own in widths.values()],
        'y': [100 * own['top1'] for own in widths.values()],
        'text': [f'width {width}' for width in widths],
        'mode': 'lines+markers',
        'line': {'color': _GREY, 'dash': dash, 'width': 2},
        'marker': {'symbol': symbol, 'size': 8},
        'hovertemplate': '%{text}<br>%{y:.2f} %<br>%{x:.3s} multiply-adds',
    }


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
    return _figure(traces, {'title': 'epoch'}, y)


def latency(costs: Mapping[str, Any]) -> Figure:
    """Returns median and 95th percentile of the time of the first batch."""
    traces = []
    for name, color in _narrow_first(costs).items():
        own = costs['widths'][name]
        above = own['latency_ms_p95'] - own['latency_ms_p50']
        traces.append(
            {
                'type': 'bar',
                'x': [plain(name)],
                'y': [own['latency_ms_p50']],
                'error_y': {
                    'type': 'data',
                    'symmetric': False,
                    'array': [above],
                    'arrayminus': [0],
                    'color': _GREY,
                },
                'marker': {'color': color},
                'showlegend': False,
                'hovertemplate': f'p50 %{{y:.3f}} ms, p95 {own["latency_ms_p95"]:.3f} '
                'ms<extra></extra>',
                'meta': {'width': name},
            }
        )
    x = {'title': 'width', 'type': 'category'}
    return _figure(traces, x, {'title': f'ms, batch {costs["batches"][0]}'})


def throughput(costs: Mapping[str, Any]) -> Figure:
    """Returns images a second against the number run together."""
    traces = [
        {
            'name': plain(name),
            'x': list(costs['widths'][name]['batches']),
            'y': [
                each['images_per_s']
                for each in costs['widths'][name]['batches'].values()
            ],
            'mode': 'lines+markers',
            'line': {'color': color, 'width': 2},
            'hovertemplate': '%{y:,.0f} images/s',
            'meta': {'width': name},
        }
        for name, color in colors(list(costs['widths'])).items()
    ]
    x = {'title': 'images a batch', 'type': 'category'}
    return _figure(traces, x, {'title': 'images a second', 'rangemode': 'tozero'})


def memory(costs: Mapping[str, Any]) -> Figure:
    """Returns the weights of each width, and the temporaries of its first batch."""
    traces = []
    for part, opacity in (('weight_bytes', 1.0), ('temporary_bytes', 0.45)):
        for name, color in _narrow_first(costs).items():
            mebibytes = (costs['widths'][name][part] or 0) / 2**20
            kind = part.partition('_')[0]
            traces.append(
                {
                    'type': 'bar',
                    'x': [plain(name)],
                    'y': [mebibytes],
                    'marker': {'color': color, 'opacity': opacity},
                    'showlegend': False,
                    'hovertemplate': f'{kind}: %{{y:.3f}} MiB<extra></extra>',
                    'meta': {'width': name},
                }
            )
    figure = _figure(traces, {'title': 'width', 'type': 'category'}, {'title': 'MiB'})
    figure['layout']['barmode'] = 'stack'
    return figure


def _narrow_first(costs: Mapping[str, Any]) -> dict[str, str]:
    return dict(reversed(colors(list(costs['widths'])).items()))


def worst_classes(predictions: Predictions, count: int) -> np.ndarray:
    """Returns the classes with the most errors of all widths, in order of label.

    Args:
        predictions: of all widths.
        count: how many classes there are; up to `MOST_CLASSES` are returned.
    """
    errors = sum(
        np.bincount(predictions.labels[~own.top1], minlength=count)
        for own in predictions.said.values()
    )
    return np.sort(np.argsort(-errors, kind='stable')[:MOST_CLASSES])


def confusions(predictions: Predictions, class_names: Sequence[str]) -> Figure:
    """Returns what each width took which class for, the right answers left out."""
    classes = worst_classes(predictions, len(class_names))
    names = [short(class_names[label]) for label in classes]
    wrong = {}
    for name, own in predictions.said.items():
        counts = confusion(predictions.labels, own.classes, len(class_names))
        np.fill_diagonal(counts, 0)
        wrong[name] = counts[np.ix_(classes, classes)]
    most = max(1, *(int(counts.max()) for counts in wrong.values()))
    traces = [
        {
            'type': 'heatmap',
            'z': counts.tolist(),
            'customdata': [
                [
                    [plain(class_names[row]), plain(class_names[column])]
                    for column in classes
                ]
                for row in classes
            ],
            'text': [[str(n) if n else '' for n in row] for row in counts.tolist()],
            'texttemplate': '%{text}' if len(classes) <= _NUMBERED_CLASSES else '',
            'zmin': 0,
            'zmax': most,
            # Nothing is clear, on light and on dark.
            'colorscale': [[0, 'rgba(214, 40, 40, 0)'], [1, 'rgba(214, 40, 40, 0.9)']],
            'showscale': False,
            'xgap': 1,
            'ygap': 1,
            'hovertemplate': '%{customdata[0]} taken for %{customdata[1]}: %{z}'
            '<extra></extra>',
            'meta': {'width': name, 'only': True},
        }
        for name, counts in wrong.items()
    ]
    x = {'title': 'taken for', **_class_axis(names)}
    y = {'title': 'is', 'autorange': 'reversed', **_class_axis(names)}
    return _figure(traces, x, y)


def class_accuracies(predictions: Predictions, class_names: Sequence[str]) -> Figure:
    """Returns the accuracy of each class at each width."""
    classes = worst_classes(predictions, len(class_names))
    traces = []
    for name, color in colors(list(predictions.said)).items():
        own = predictions.said[name]
        counts = confusion(predictions.labels, own.classes, len(class_names))
        values = 100 * class_accuracy(counts)[classes]
        traces.append(
            {
                'name': plain(name),
                'x': list(range(len(classes))),
                'y': [None if np.isnan(value) else float(value) for value in values],
                'customdata': [plain(class_names[label]) for label in classes],
                'mode': 'markers',
                'marker': {'color': color, 'size': 10},
                'hovertemplate': '%{customdata}: %{y:.2f} %',
                'meta': {'width': name},
            }
        )
    x = _class_axis([short(class_names[label]) for label in classes])
    return _figure(traces, x, {'title': 'accuracy, %'})


def _class_axis(names: Sequence[str]) -> dict[str, Any]:
    # By number: two names that are cut short may be the same.
    return {'tickmode': 'array', 'tickvals': list(range(len(names))), 'ticktext': names}


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
    return _figure(traces, x, {'title': 'discrepancy', 'rangemode': 'tozero'})


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
            'line': {'color': _GREY, 'width': 1.2},
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
    return _figure([*lines, *dots], x, {'title': quantity})


def _figure(
    traces: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any]
) -> Figure:
    layout = {
        'margin': {'l': 58, 'r': 14, 't': 12, 'b': 48},
        'paper_bgcolor': 'rgba(0, 0, 0, 0)',
        'plot_bgcolor': 'rgba(0, 0, 0, 0)',
        'legend': {'orientation': 'h', 'y': 1.02, 'yanchor': 'bottom'},
        'hovermode': 'closest',
    }
    for name, axis in (('xaxis', x), ('yaxis', y)):
        title = {'text': axis['title']} if 'title' in axis else {}
        layout[name] = {'zeroline': False, 'automargin': True, **axis, 'title': title}
    return {'data': list(traces), 'layout': layout}
