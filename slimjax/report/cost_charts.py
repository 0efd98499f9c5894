"""Charts of what each width is worth, and what it costs."""

from collections.abc import Mapping
from typing import Any

from slimjax.insight.table import format_count
from slimjax.report.figure import GREY, Figure, colors, figure, plain

# From this ratio of multiply-adds on, their axis is logarithmic.
_LOG_RATIO = 4


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
    return figure(traces, x, y)


def _accuracy_line(name: str, widths, dash: str, symbol: str) -> dict[str, Any]:
    return {
        'name': plain(name),
        'x': [own['macs'] for own in widths.values()],
        'y': [100 * own['top1'] for own in widths.values()],
        'text': [f'width {width}' for width in widths],
        'mode': 'lines+markers',
        'line': {'color': GREY, 'dash': dash, 'width': 2},
        'marker': {'symbol': symbol, 'size': 8},
        'hovertemplate': '%{text}<br>%{y:.2f} %<br>%{x:.3s} multiply-adds',
    }


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
                    'color': GREY,
                },
                'marker': {'color': color},
                'showlegend': False,
                'hovertemplate': f'p50 %{{y:.3f}} ms, p95 {own["latency_ms_p95"]:.3f} '
                'ms<extra></extra>',
                'meta': {'width': name},
            }
        )
    x = {'title': 'width', 'type': 'category'}
    return figure(traces, x, {'title': f'ms, batch {costs["batches"][0]}'})


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
    return figure(traces, x, {'title': 'images a second', 'rangemode': 'tozero'})


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
    stacked = figure(traces, {'title': 'width', 'type': 'category'}, {'title': 'MiB'})
    stacked['layout']['barmode'] = 'stack'
    return stacked


def _narrow_first(costs: Mapping[str, Any]) -> dict[str, str]:
    return dict(reversed(colors(list(costs['widths'])).items()))
