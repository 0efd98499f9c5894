"""The tables of the documentation, made from the files in `results/`.

Between two comments of a Markdown file stands a table that is never written by hand:

    <!-- table: KIND results/FILE.json ... -->
    <!-- end of table -->
"""

import json
import pathlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from slimjax.ablate.studies import STUDIES
from slimjax.ablate.table import cosine_lines, study_lines
from slimjax.benchmark import figure
from slimjax.benchmark.faults import faults_markdown
from slimjax.compare.table import table_lines
from slimjax.insight.gain import Gain, gain_rows
from slimjax.insight.table import markdown, results_markdown

_BLOCK = re.compile(
    r'(<!-- table: (?P<kind>\S+) (?P<files>[^>]+?) -->\n)'
    r'(?P<table>.*?)(<!-- end of table -->)',
    re.DOTALL,
)


def _one(
    make: Callable[[Mapping[str, Any]], str],
) -> Callable[[list[Mapping[str, Any]]], str]:
    """Makes a table of one file out of a table of several, one under the other."""
    return lambda every: '\n\n'.join(map(make, every))


def _gains(results: Mapping[str, Any]) -> str:
    gains = {name: Gain(**own) for name, own in results['gains'].items()}
    return markdown(gain_rows(gains))


def _lines(
    make: Callable[[Mapping[str, Any]], list[str]],
) -> Callable[[list[Mapping[str, Any]]], str]:
    return _one(lambda results: '\n'.join(make(results)))


# What writes the files: scripts/benchmark.py; cost.py and report.py; report.py;
# compare.py; ablate.py; and make torture.
KINDS = {
    'benchmark': figure.markdown,
    'widths': _one(results_markdown),
    'gains': _one(_gains),
    'comparison': _lines(table_lines),
    **{name: _lines(partial(study_lines, name=name)) for name in STUDIES},
    'cosines': _lines(cosine_lines),
    'faults': _one(faults_markdown),
}


def filled(text: str, root: pathlib.Path) -> str:
    """Returns a Markdown file with its tables made anew.

    Args:
        text: the file.
        root: the folder that the names of result files start from.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such kind of table.

    Example:
        >>> import tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (root / 'a.json').write_text('{"widths": {"0.5": {"macs": 5e6}}}')
        >>> start, end = '<!-- table: widths a.json -->', '<!-- end of table -->'
        >>> print(filled(f'{start}\\nold\\n{end}', root))
        <!-- table: widths a.json -->
        | width |  MACs |
        | ----- | ----: |
        | 0.5   | 5.0 M |
        <!-- end of table -->
    """

    def table(block: re.Match) -> str:
        kind = block['kind']
        if kind not in KINDS:
            raise ValueError(f'table: {kind!r}; allowed: {", ".join(KINDS)}')
        files = [root / name for name in block['files'].split()]
        every = [json.loads(file.read_text()) for file in files]
        return f'{block[1]}{KINDS[kind](every)}\n{block[5]}'

    return _BLOCK.sub(table, text)
