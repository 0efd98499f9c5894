"""The page of a report: facts and charts put into `page.html`.

jinja2 escapes all that is put in. Beyond that, the page's own policy allows its own
scripts only, by their hashes, and no request at all: whatever a data set calls its
classes and files, it cannot make the page run or fetch a thing.
"""

import base64
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping

from slimjax.insight.memory import format_bytes
from slimjax.insight.norm_statistics import QUANTITIES
from slimjax.insight.table import format_count
from slimjax.insight.top_images import mean_colour
from slimjax.report import class_charts, cost_charts, network_charts
from slimjax.report.figure import Figure
from slimjax.report.gather import Facts
from slimjax.report.pictures import css_color, data_uri
from slimjax.whole_file import whole_file

_FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart, and what stands beneath it.

    Attributes:
        title: above it.
        figure: what plotly draws.
        note: beneath it.
        size: `'small'`, `'medium'` or `'tall'`.
    """

    title: str
    figure: Figure
    note: str = ''
    size: str = 'medium'


def write_page(facts: Facts, path: str | pathlib.Path) -> None:
    """Writes a report, whole or not at all.

    Args:
        facts: what `gather` returns.
        path: an HTML file.

    Raises:
        ImportError: jinja2 or plotly is not installed.
    """
    page = render(facts)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding='utf-8')


def render(facts: Facts) -> str:
    """Returns the page.

    Raises:
        ImportError: jinja2 or plotly is not installed.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError(
            f"a report needs {error.name}: pip install 'slimjax[report]'"
        ) from None
    scripts = [get_plotlyjs(), (_FOLDER / 'page.js').read_text()]
    # A file that holds this would end the script's element.
    if any('</script' in script.lower() for script in scripts):
        raise ValueError('a script of the page would end early')
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        'count': format_count,
        'bytes': format_bytes,
        'percent': lambda value: f'{100 * value:.2f} %',
        'points': lambda value: f'{100 * value:+.2f}',
        'image': data_uri,
        'color': css_color,
    }
    return environment.get_template('page.html').render(
        facts=facts,
        widths=list(facts.predictions.said),
        images=len(facts.predictions.labels),
        charts=all_charts(facts),
        mean_colour=mean_colour,
        style=(_FOLDER / 'page.css').read_text(),
        scripts=scripts,
        policy=_policy(scripts),
    )


def _policy(scripts: list[str]) -> str:
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in scripts
    ]
    allowed = ' '.join(f"'sha256-{each}'" for each in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def all_charts(facts: Facts) -> Mapping[str, list[Chart]]:
    """Returns the charts of each section of the page."""
    predictions, names = facts.predictions, facts.class_names
    most = class_charts.MOST_CLASSES
    few = len(names) <= most
    shown = '' if few else f'The {most} of {len(names)} classes with the most errors.'
    return {
        'accuracy': [
            Chart(
                'Accuracy against multiply-adds',
                cost_charts.accuracy(facts.costs, facts.individual),
            )
        ],
        'curves': [
            Chart(
                f'{split.capitalize()} error',
                network_charts.curves(points, list(predictions.said)),
            )
            for split, points in facts.curves.items()
            if points
        ],
        'costs': [
            Chart(
                'Latency',
                cost_charts.latency(facts.costs),
                'Bars are medians; a whisker ends at the 95th percentile.',
            ),
            Chart('Throughput', cost_charts.throughput(facts.costs)),
            Chart(
                'Memory',
                cost_charts.memory(facts.costs),
                'Weights of the width alone, and above them what a pass needs besides.',
            ),
        ],
        'classes': [
            Chart(
                'Accuracy of each class',
                class_charts.class_accuracies(predictions, names),
                shown,
            ),
            Chart('Errors', class_charts.confusions(predictions, names), shown, 'tall'),
        ],
        'norms': _norm_charts(facts),
    }


def _norm_charts(facts: Facts) -> list[Chart]:
    norms = facts.norms
    if norms is None:
        return []
    found = [
        Chart(
            'Discrepancy of the widths',
            network_charts.discrepancy(norms),
            'Mean distance of two widths over the channels that both have, in units of '
            'their mean size. In brackets: its rank correlation with depth.',
        )
    ]
    first, last = next(iter(norms.values)), list(norms.values)[-1]
    for norm in dict.fromkeys((first, last)):
        for quantity in QUANTITIES:
            figure = network_charts.norm_channels(norms, norm, quantity)
            found.append(Chart(f'{norm}: {quantity}', figure, size='small'))
    return found
