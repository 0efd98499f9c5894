"""Charts of the classes: how well each is told, and what it is taken for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from slimjax.insight.predictions import Predictions, class_accuracy, confusion
from slimjax.report.figure import Figure, colors, figure, plain, short

# More classes than that are not drawn: those with the most errors are.
MOST_CLASSES = 30
# In cells of up to so many classes there is room for numbers.
_NUMBERED_CLASSES = 15


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
    return figure(traces, x, y)


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
    return figure(traces, x, {'title': 'accuracy, %'})


def _class_axis(names: Sequence[str]) -> dict[str, Any]:
    # By number: two names that are cut short may be the same.
    return {'tickmode': 'array', 'tickvals': list(range(len(names))), 'ticktext': names}
