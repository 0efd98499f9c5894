"""What all charts of a report have in common: figures of plotly, as plain dictionaries.

plotly.js draws them in the page. What belongs to one width says so in its trace's
`meta`: the page makes it stand out while that width is chosen, and hides it otherwise
where `only` is set. Text of the data is escaped, as plotly takes tags for mark-up.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Figure = dict[str, Any]

# Readable on light and on dark.
GREY = '#8a8f98'
_LABEL_LENGTH = 16


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


def figure(
    traces: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any]
) -> Figure:
    """Returns traces on two axes, of which each may have a `title`."""
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
