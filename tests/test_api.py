"""docs/api.md names what is public, and the README leads there."""

import re

import slimjax
from tests.commands import ROOT
from tests.markdown import rows


def test_every_public_name_is_in_a_table_and_no_other():
    tables = [
        line
        for line in (ROOT / 'docs' / 'api.md').read_text().splitlines()
        if line.startswith('| `')
    ]
    named = [
        name for cells in rows('\n'.join(tables)) for name in cells[0].split('`')[1::2]
    ]
    names = [re.match(r'\w+', name).group() for name in named]
    assert sorted(names) == sorted(set(slimjax.__all__) - {'__version__'})
    assert all(hasattr(slimjax, name) for name in names)
