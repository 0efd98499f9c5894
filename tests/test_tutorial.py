"""The tutorial notebook, from top to bottom."""

import nbclient
import nbformat
import pytest

from tests.commands import ROOT


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_runs_and_shows_its_three_figures():
    notebook = nbformat.read(ROOT / 'docs' / 'tutorial.ipynb', as_version=4)
    resources = {'metadata': {'path': str(ROOT)}}
    nbclient.NotebookClient(notebook, timeout=1200, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    pictures = [each for each in outputs if 'image/png' in each.get('data', {})]
    assert len(pictures) == 3
    printed = ''.join(each['text'] for each in outputs if 'text' in each)
    assert '\nTrue\n' in printed  # Cut out, a width has the same logits.
    assert not any(each.get('name') == 'stderr' for each in outputs)
