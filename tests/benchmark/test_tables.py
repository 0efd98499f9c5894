"""The tables of the documentation are those that the result files give."""

import json
import re

import pytest

from slimjax.benchmark.tables import filled
from slimjax.insight.gain import Gain
from tests.commands import ROOT
from tests.markdown import rows

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_the_documentation_is_up_to_date(path):
    text = path.read_text()
    assert filled(text, ROOT) == text, 'run python scripts/tables.py'
    assert text.count('<!-- table: ') == text.count('<!-- end of table -->')


def test_each_table_is_of_its_own_files(tmp_path):
    gains = {'0.5': Gain(0.5, 0.75, 0.25, 0.125, 0.375)._asdict()}
    for name, macs in (('a', 5e6), ('b', 7e6)):
        results = {'widths': {'0.5': {'macs': macs}}, 'gains': gains}
        (tmp_path / f'{name}.json').write_text(json.dumps(results))
    blocks = [
        f'before\n<!-- table: {kind} -->\nby hand\n<!-- end of table -->\nafter\n'
        for kind in ('widths b.json', 'gains a.json')
    ]
    text = filled(''.join(blocks), tmp_path)
    assert 'by hand' not in text
    assert text.count('before') == text.count('after') == 2
    assert '5.0 M' not in text
    found = rows(text)
    assert ['0.5', '7.0 M'] in found
    assert ['0.5', '50.00', '75.00', '+25.00', '+12.50 to +37.50', 'better'] in found
    assert filled(text, tmp_path) == text


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'results').glob('*.json')), ids=lambda path: path.name
)
def test_results_tell_their_command_commit_and_machine(path):
    results = json.loads(path.read_text())
    for part in results.get('parts', {'': results}).values():
        assert part['command'].startswith(('python ', 'make '))
        for names in (
            ('git_commit', 'git_commits', 'commits'),
            ('device', 'machine', 'machines'),
        ):
            assert any(part.get(name) for name in names), names


# An image, further ones below it, and a caption that states what made them.
_IMAGE = re.compile(r'!\[[^]]+\]\((?P<file>[^)]+)\)\n(?=(?P<below>(?:.+\n)*))')
_COMMAND = re.compile(r'`(?:make (?P<target>\w+)|python (?P<script>scripts/\w+\.py))')


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_figures_state_the_command_that_makes_them(path):
    text = path.read_text()
    images = list(_IMAGE.finditer(text))
    assert len(images) == len(re.findall(r'!\[', text))
    for image in images:
        assert (path.parent / image['file']).exists()
        command = _COMMAND.search(image['below'])
        assert command, f'{image["file"]} has no caption with its command'
        if command['script']:
            assert (ROOT / command['script']).exists()
        else:
            assert f'\n{command["target"]}:' in (ROOT / 'Makefile').read_text()


def test_what_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="'gainz'; allowed: benchmark, widths, "):
        filled('<!-- table: gainz a.json -->\n<!-- end of table -->', tmp_path)
    with pytest.raises(FileNotFoundError, match='a.json'):
        filled('<!-- table: widths a.json -->\n<!-- end of table -->', tmp_path)
