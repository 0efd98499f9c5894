"""A page of hostile names, and what the slider does, in a real browser."""

import html
import json
import re
import sys

import numpy as np
import pytest

from slimjax.insight.predictions import Predictions, Said
from slimjax.report.class_charts import MOST_CLASSES, confusions
from slimjax.report.page import all_charts, render, write_page
from tests.report.browser import opened
from tests.report.facts import HOSTILE, WIDTHS, hostile_facts

DRAWN = """[...document.querySelectorAll('.chart')].map(
    (chart) => chart.querySelectorAll('svg .trace, svg .heatmaplayer .hm').length)"""
OPACITY = """document.querySelector('#curves .chart').data.map(
    (trace) => [trace.meta.width, trace.opacity])"""
CONFUSION = """[...document.querySelectorAll('#classes .chart')].at(-1).data.filter(
    (trace) => trace.visible).map((trace) => trace.meta.width)"""
BLOCKED = """(markup) => new Promise((resolve) => {
    document.addEventListener('securitypolicyviolation', (event) => resolve(
        `${event.effectiveDirective} ${event.blockedURI}`), { once: true });
    document.body.insertAdjacentHTML('beforeend', markup); })"""
INSIDE = """[...document.querySelectorAll('.chart')].every((chart) => {
    const inner = chart.querySelector('svg').getBoundingClientRect();
    const outer = chart.parentElement.getBoundingClientRect();
    return inner.right <= outer.right + 1 && inner.bottom <= outer.bottom + 1; })"""


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp('page') / 'report.html'
    write_page(hostile_facts(), path)
    assert list(path.parent.iterdir()) == [path]
    return path


def test_names_are_text_wherever_they_stand(path):
    page = path.read_text()
    for name in HOSTILE:
        assert name not in page
        assert name in html.unescape(page)
    # Within a figure, tags are neither the page's nor plotly's.
    figures = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert len(figures) == sum(map(len, all_charts(hostile_facts()).values()))
    for figure in map(json.loads, figures):
        assert not re.search('<(?!br>|extra>|/extra>)', json.dumps(figure))


def test_the_page_runs_nothing_and_asks_for_nothing_but_itself(chromium, path):
    with opened(chromium, path) as seen:
        assert seen.complaints == []
        assert [url for url in seen.requests if not url.startswith('data:')] == [
            path.as_uri()
        ]
        assert seen.page.evaluate('typeof boom') == 'undefined'
        assert seen.page.locator('img[src="x"], a, svg[onload], b b').count() == 0
        assert seen.page.locator('h1').inner_text() == HOSTILE[0]
        ticks = seen.page.locator('#classes .yaxislayer-above text, .ytick text')
        assert any(text.startswith('</script>') for text in ticks.all_text_contents())
        # The policy holds by itself: what is put in later neither runs nor loads.
        assert seen.page.evaluate(BLOCKED, '<img src="data:," onerror="boom=1">') == (
            'script-src-attr inline'
        )
        assert seen.page.evaluate(BLOCKED, '<img src="https://a.invalid/">') == (
            'img-src https://a.invalid/'
        )
        assert seen.page.evaluate('typeof boom') == 'undefined'


def test_the_slider_moves_the_whole_page(chromium, path):
    with opened(chromium, path) as seen:
        page = seen.page
        assert all(count > 0 for count in page.evaluate(DRAWN))
        for width in ('1.0', '0.5', '0.25', '0.5'):
            page.locator('#width').fill(str(WIDTHS[::-1].index(width)))
            assert page.locator('output').inner_text() == width
            for row in page.locator('[data-row].chosen').all():
                assert row.get_attribute('data-row') == width
            assert page.locator('#summary tr.chosen').count() == 1
            assert page.locator('#channels .tops.chosen').count() == 1
            for part in page.locator('[data-width]').all():
                assert part.is_visible() == (part.get_attribute('data-width') == width)
            strongest = [name for name, own in page.evaluate(OPACITY) if own == 1]
            assert strongest == [width]
            assert page.evaluate(CONFUSION) == [width]
        page.locator('#width').press('ArrowRight')
        assert page.locator('output').inner_text() == '1.0'
        assert 'widest' in page.locator('#lost').inner_text()
        assert seen.complaints == []


def test_dark_and_light_are_readable(chromium, path):
    lightness = """(name) => { const [r, g, b] = getComputedStyle(
        document.querySelector(name[0]))[name[1]].match(/\\d+/g).map(Number);
        return (r + g + b) / 765; }"""
    with opened(chromium, path) as seen:
        for scheme in ('light', 'dark'):
            seen.page.emulate_media(color_scheme=scheme)
            paper, text, axis = (
                seen.page.evaluate(lightness, names)
                for names in (
                    ['body', 'backgroundColor'],
                    ['body', 'color'],
                    ['.chart .xtick text', 'fill'],
                )
            )
            assert (paper > 0.9) if scheme == 'light' else (paper < 0.15)
            assert abs(paper - text) > 0.6
            assert abs(paper - axis) > 0.6


def test_a_phone_shows_it_without_scrolling_sideways(chromium, path):
    size = {'width': 360, 'height': 740}
    with opened(chromium, path, viewport=size, is_mobile=True, has_touch=True) as seen:
        assert seen.page.evaluate('document.documentElement.scrollWidth') <= 360
        assert seen.page.evaluate(INSIDE)


def test_it_prints_on_a4(chromium, path):
    with opened(
        chromium, path, color_scheme='dark', viewport={'width': 794, 'height': 1123}
    ) as seen:
        assert seen.page.pdf(format='A4').startswith(b'%PDF')
        seen.page.emulate_media(media='print')
        seen.page.evaluate('dispatchEvent(new Event("beforeprint"))')
        assert seen.page.evaluate(INSIDE)
        assert seen.page.locator('#config details').get_attribute('open') is not None
        background = 'getComputedStyle(document.documentElement).getPropertyValue'
        assert seen.page.evaluate(f'{background}("--paper")').strip() == '#ffffff'
        seen.page.evaluate('dispatchEvent(new Event("afterprint"))')
        assert seen.complaints == []


def test_what_a_run_lacks_is_said(path):
    page = render(
        hostile_facts(
            norms=None, norms_missing='one width', curves={}, gains={}, individual={}
        )
    )
    assert 'Not shown: one width.' in page
    assert 'Nothing was logged yet.' in page
    assert 'individual</th>' not in page


def test_of_many_classes_those_with_the_most_errors_are_drawn():
    classes = MOST_CLASSES + 20
    labels = np.arange(classes).repeat(2)
    wrong = labels >= 20
    said = Said(np.where(wrong, 0, labels), np.ones(len(labels)), ~wrong, ~wrong)
    predictions = Predictions('test', np.arange(len(labels)), labels, {'1.0': said})
    figure = confusions(predictions, [f'class {n}' for n in range(classes)])
    assert figure['layout']['xaxis']['ticktext'][0] == 'class 20'
    (trace,) = figure['data']
    assert np.shape(trace['z']) == (MOST_CLASSES, MOST_CLASSES)


def test_without_its_packages_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'jinja2', None)
    with pytest.raises(ImportError, match=r"jinja2: pip install 'slimjax\[report\]'"):
        write_page(hostile_facts(), tmp_path / 'report.html')
    assert not list(tmp_path.iterdir())
