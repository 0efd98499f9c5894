"""The plot of accuracy against multiply-adds."""

import sys

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from slimjax.insight.plot import plot_accuracy


def results(*rows):
    return {
        'widths': {width: {'macs': macs, 'top1': top1} for width, macs, top1 in rows}
    }


RESNET = results(
    ('0.25', 278e6, 0.650),
    ('0.5', 1052e6, 0.721),
    ('0.75', 2323e6, 0.749),
    ('1.0', 4089e6, 0.760),
)
ALONE = results(('0.25', 278e6, 0.638), ('0.5', 1052e6, 0.720), ('1.0', 4089e6, 0.761))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written."""
    figures, write = [], matplotlib.figure.Figure.savefig

    def savefig(figure, *args, **kwargs):
        figures.append(figure)
        write(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, 'savefig', savefig)
    return figures


def test_a_picture_is_written_whole_and_the_backend_left_alone(tmp_path):
    pyplot = 'matplotlib.pyplot' in sys.modules
    path = tmp_path / 'accuracy.png'
    path.write_text('of an earlier run')
    plot_accuracy(RESNET, path, 'S-ResNet-50', others={'trained alone': ALONE})
    with Image.open(path) as image:
        assert image.format == 'PNG'
        assert np.asarray(image.convert('L')).std() > 5
    assert list(tmp_path.iterdir()) == [path]
    # Only pyplot knows of backends.
    assert ('matplotlib.pyplot' in sys.modules) == pyplot


def test_points_carry_width_and_accuracy(tmp_path, drawn):
    plot_accuracy(RESNET, tmp_path / 'a.png', 'S-ResNet-50', label='slimmable')
    (axes,) = drawn[0].axes
    assert axes.get_title() == 'S-ResNet-50'
    assert {text.get_text() for text in axes.texts} == {
        '0.25\N{MULTIPLICATION SIGN}\n65.0 %',
        '0.5\N{MULTIPLICATION SIGN}\n72.1 %',
        '0.75\N{MULTIPLICATION SIGN}\n74.9 %',
        '1.0\N{MULTIPLICATION SIGN}\n76.0 %',
    }
    assert axes.get_xscale() == 'log'
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert {'500 M', '1 G', '2 G'} <= set(ticks)
    assert axes.get_legend() is None


def test_series_are_told_apart(tmp_path, drawn):
    plot_accuracy(RESNET, tmp_path / 'a.png', others={'trained alone': ALONE})
    (axes,) = drawn[0].axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ['slimmable', 'trained alone']
    # The better of the two is labelled above its point, the other below.
    above = {text.get_text().split()[1]: text.xyann[1] > 0 for text in axes.texts}
    assert above == {
        '65.0': True,
        '63.8': False,
        '72.1': True,
        '72.0': False,
        '74.9': True,
        '76.0': False,
        '76.1': True,
    }


def test_many_widths_are_labelled_as_far_as_there_is_room(tmp_path, drawn):
    widths = [round(0.25 + 0.025 * n, 3) for n in range(31)]
    rows = [(str(w), 5.7e8 * w * w, 0.55 + 0.17 * w) for w in widths]
    plot_accuracy(results(*rows), tmp_path / 'a.png')
    (axes,) = drawn[0].axes
    assert 5 <= len(axes.texts) <= 13
    labels = ' '.join(text.get_text() for text in axes.texts)
    assert '0.25\N{MULTIPLICATION SIGN}' in labels
    assert '1.0\N{MULTIPLICATION SIGN}' in labels


@pytest.mark.parametrize(
    'rows',
    [
        [('1.0', 1e7, 1.0)],
        [('0.5', 1e7, 0.0), ('1.0', 1e7, 0.0)],
        [('0.5', 5e6, 0.993), ('1.0', 1e7, 0.994)],
        [('0.05', 1e4, 0.1), ('1.0', 1e10, 1.0)],
    ],
)
def test_odd_ranges_are_drawn(rows, tmp_path, drawn):
    plot_accuracy(results(*rows), tmp_path / 'a.png')
    (axes,) = drawn[0].axes
    low, high = axes.get_ylim()
    assert all(low <= 100 * top1 <= high for *_, top1 in rows)
    assert all(0 <= tick <= 100 for tick in axes.get_yticks())
    assert len(axes.get_yticks()) >= 2


def test_a_width_without_a_score_is_left_out(tmp_path, drawn):
    diverged = results(('0.5', 5e6, float('nan')), ('0.75', 7e6, 0.4))
    diverged['widths']['1.0'] = {'macs': 1e7}
    plot_accuracy(diverged, tmp_path / 'a.png')
    assert len(drawn[0].axes[0].texts) == 1
    with pytest.raises(ValueError, match='alone: no width has both macs and top1'):
        plot_accuracy(diverged, tmp_path / 'b.png', others={'alone': {'widths': {}}})


def test_a_failed_plot_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(figure, path, **_):
        path.write_bytes(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(matplotlib.figure.Figure, 'savefig', broken)
    with pytest.raises(OSError, match='disk full'):
        plot_accuracy(RESNET, tmp_path / 'a.png')
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(ImportError, match=r"pip install 'slimjax\[demo\]'"):
        plot_accuracy(RESNET, tmp_path / 'a.png')
