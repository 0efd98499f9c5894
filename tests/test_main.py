"""The command line, as a user meets it."""

import json
import pathlib
import re

import pytest

from slimjax.config_fields import FIELDS
from slimjax.models import MODELS, model_fields
from tests.commands import ROOT, run_command, run_python

DIGITS = f'--config={ROOT / "configs" / "digits.py"}'


def test_describe_needs_no_data_and_writes_json(tmp_path):
    path = tmp_path / 'costs.json'
    done = run_python(
        *('-m', 'slimjax.main'),
        f'--config={ROOT / "configs" / "imagenet.py"}:s_mobilenet_v1',
        '--mode=describe',
        '--config.widths=(0.25,1.0)',
        # A field that the recipe does not state.
        '--config.model_fields.depthwise_own_fan=True',
        f'--json={path}',
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(path.read_text())
    assert results['widths']['1.0']['macs'] == 568_740_352
    assert results['widths']['0.25']['params'] == 470_072
    assert '568' in done.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), '--config=FILE is needed'),
        (('--config=nowhere.py',), "there is no file 'nowhere.py'"),
        ((DIGITS,), 'needs --workdir'),
        ((DIGITS, '--workdir=/tmp/x', '--config.learning_rat=1'), 'did you mean'),
        ((DIGITS, '--workdir=/tmp/x', '--config.widths=(0,1)'), 'config.widths=(0'),
        ((DIGITS, '--config.model_fields.depth=3'), 'it has base_features, '),
        ((DIGITS, '--mode=eval', '--workdir=/nowhere'), 'holds no checkpoint'),
        ((DIGITS, '--mode=run', '--workdir=/tmp/x'), 'mode'),
        ((DIGITS, 'train', '--workdir=/tmp/x'), "'train' is not understood"),
        ((DIGITS, '--workdir=/tmp/x', '--config.batch_size=many'), 'batch_size'),
        (
            (DIGITS, '--workdir=/tmp/x', '--config.dataset=imagenet2012'),
            'prepare_imagenet.py',
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_no_traceback(arguments, message):
    done = run_command('-m', 'slimjax.main', *arguments)
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert 'Traceback' not in done.stderr


def readme_examples():
    text = (ROOT / 'README.md').read_text()
    return '\n'.join(re.findall(r'```python\n(.*?)```', text, re.DOTALL))


def test_the_library_example_of_the_readme_runs():
    program = readme_examples()
    assert 'sum_over_widths' in program
    done = run_python('-c', program, timeout=200)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0


def test_the_files_that_the_readme_names_are_there():
    text = (ROOT / 'README.md').read_text()
    for name in re.findall(r'(?:configs|scripts|docs|slimjax)/\w+\.\w+', text):
        assert pathlib.Path(ROOT, name).is_file(), name


def test_the_page_of_published_networks_states_the_counted_costs():
    costs = ROOT / 'tests' / 'insight' / 'published_costs.txt'
    page = (ROOT / 'docs' / 'published.md').read_text()
    name, found = '', {}
    for line in page.splitlines():
        cells = [cell.strip(' `') for cell in line.strip('|').split('|')]
        if len(cells) > 6 and cells[2].replace(',', '').isdigit():
            name = cells[0] or name
            found[name, cells[1]] = [int(cell.replace(',', '')) for cell in cells[2:6]]
        elif len(cells) == 2 and cells[1].replace(',', '').isdigit():
            found[cells[0], 'stored'] = [int(cells[1].replace(',', ''))]
    expected = {}
    for line in costs.read_text().splitlines():
        if not line.startswith('#'):
            model, width, *counts = line.split()
            counts = [int(count) for count in counts]
            if width != 'stored':
                macs_published, macs, layers, norms = counts
                counts = [macs, macs_published, layers + norms, norms]
            expected[model, width] = counts
    assert found == expected
    for field in re.findall(r'`config\.(?:model_fields\.)?(\w+)', page):
        assert field in FIELDS or any(field in model_fields(m) for m in MODELS), field
