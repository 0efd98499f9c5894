"""The demonstration page in a real browser: what it says is what JAX says."""

import contextlib
import dataclasses
import functools
import http.server
import io
import json
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from slimjax.deploy.controller import Controller, Rule
from slimjax.deploy.demo_page import write_demo_page
from slimjax.deploy.onnxruntime_web import BINARY, SCRIPT, onnxruntime_web
from slimjax.deploy.simulation import BUDGET, COSTS, made_up_costs
from tests.deploy.networks import drawn, tiny, write_bundle
from tests.report.facts import HOSTILE

SHAPE = (12, 12, 1)
WIDTHS = ('1.0', '0.5', '0.25')
CLASSES = [HOSTILE[0], '</script><script>boom=1</script>', '{{FACTS}}', '&lt;', 'é']
PREPROCESSING = {'mean': [0.305], 'std': [0.376], 'resize': 12}
LOADED = 'body:not([data-shown="0"]), #status.wrong'
DECIDE = """async ({ costs, budget, rule, names, times, rows }) => {
    const { Controller } = await import('./controller.js');
    const controller = new Controller(costs, budget, rule);
    return times.map((time, number) => controller.observe(
        controller.width, rows[number][names.indexOf(controller.width)], time)
    ).filter(Boolean); }"""
FILM = """() => { navigator.mediaDevices.getUserMedia = async () => {
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d');
    context.fillStyle = '#777';
    setInterval(() => context.fillRect(0, 0, 300, 150), 20);
    return canvas.captureStream(30); }; }"""


@pytest.fixture(scope='module')
def network():
    pytest.importorskip('onnx', reason="needs the extra 'onnx'")
    # Wide enough that any clock sees what the widest costs.
    model, _ = tiny(base_features=32)
    return model, drawn(model, SHAPE)


@pytest.fixture(scope='module')
def bundle(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp('made') / 'bundle'
    facts = {'preprocessing': PREPROCESSING, 'class_names': CLASSES}
    write_bundle(folder, *network, SHAPE, **facts)
    manifest = json.loads((folder / 'manifest.json').read_text())
    for own in manifest['widths'].values():
        own['macs'] = 1_000_000
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope='module')
def site(bundle, tmp_path_factory):
    try:
        onnxruntime_web()
    except OSError as error:
        pytest.skip(f'onnxruntime-web is not at hand: {error}')
    folder = tmp_path_factory.mktemp('written') / 'page'
    write_demo_page(bundle, folder, title=HOSTILE[0])
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def visited(chromium, folder, loaded=LOADED):
    """Yields a page that a server of this machine gives, and what it complained of."""
    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(Quiet, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = chromium.new_page()
    complaints, requests = [], []
    page.on('console', lambda message: complaints.append(message.text))
    page.on('pageerror', lambda error: complaints.append(str(error)))
    page.on('request', lambda request: requests.append(request.url))
    address = f'http://127.0.0.1:{server.server_port}/'
    try:
        page.goto(address)
        page.locator(loaded).first.wait_for(timeout=60_000)
        yield page, complaints
        assert all(url.startswith((address, 'data:', 'blob:')) for url in requests)
    finally:
        page.close()
        server.shutdown()
        server.server_close()


def shown(page):
    """The number of pictures that every width has seen."""
    return int(page.locator('body').get_attribute('data-shown'))


def upload(page, pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    before = shown(page)
    picture = {'name': 'a.png', 'mimeType': 'image/png', 'buffer': file.getvalue()}
    page.locator('#file').set_input_files(picture)
    page.locator(f'body[data-shown="{before + 1}"]').wait_for()


def test_each_width_says_what_jax_says(chromium, site, network):
    model, variables = network
    rng = np.random.default_rng(0)
    with visited(chromium, site) as (page, complaints):
        for pixels in (
            rng.integers(0, 256, (12, 12), np.uint8),
            rng.integers(0, 256, (12, 12, 3), np.uint8),
        ):
            upload(page, pixels)
            grey = np.asarray(Image.fromarray(pixels).convert('L'), np.float32)
            images = ((grey / 255 - 0.305) / 0.376)[None, ..., None]
            for width in model.widths:
                apply = jax.jit(functools.partial(model.apply, width=width))
                expected = np.asarray(apply(variables, images))[0]
                rows = page.locator(f'[data-width="{width}"] li').all()
                said = [int(row.get_attribute('data-class')) for row in rows]
                logits = [float(row.get_attribute('data-logit')) for row in rows]
                assert said == np.argsort(-expected).tolist()
                np.testing.assert_allclose(logits, expected[said], rtol=0, atol=1e-4)
        assert complaints == []


def test_names_of_the_data_set_are_text(chromium, site):
    with visited(chromium, site) as (page, complaints):
        upload(page, np.zeros((12, 12), np.uint8))
        assert page.locator('h1').inner_text() == HOSTILE[0]
        assert page.title() == HOSTILE[0]
        names = page.locator('[data-width="1.0"] li span:first-child').all()
        assert {name.inner_text() for name in names} == set(CLASSES)
        assert page.evaluate('() => typeof boom') == 'undefined'
        assert page.locator('img').count() == 0
        assert complaints == []


def test_the_slider_and_the_budget_choose_the_width(chromium, site):
    with visited(chromium, site) as (page, complaints):
        slider = page.locator('#width')
        for place, width in enumerate(reversed(WIDTHS)):
            slider.fill(str(place))
            assert page.locator('output').inner_text() == width
            chosen = page.locator('.width.chosen')
            assert chosen.get_attribute('data-width') == width
            assert ' ms' in chosen.inner_text()
        page.locator('#budget').fill('0.001')
        page.locator('#auto').check()
        # The one that was measured to cost least, on a machine that may be busy.
        assert page.locator('output').inner_text() in ('0.25', '0.5')
        assert slider.is_disabled()
        page.locator('#budget').fill('100000')
        page.locator('.stale[data-width="0.5"]').wait_for()
        assert page.locator('output').inner_text() == '1.0'
        page.locator('#auto').uncheck()
        page.locator('[data-width="0.5"]:not(.stale)').wait_for()
        assert complaints == []


def test_a_drawing_and_the_camera_are_seen(chromium, site):
    seen = """() => { const { width, height } = document.getElementById('seen');
        return [...document.getElementById('seen').getContext('2d').getImageData(
            0, 0, width, height).data].filter((value, place) => place % 4 === 0); }"""
    with visited(chromium, site) as (page, complaints):
        assert max(page.evaluate(seen)) == 0
        before, box = shown(page), page.locator('#pad').bounding_box()
        page.mouse.move(box['x'] + 140, box['y'] + 20)
        page.mouse.down()
        page.mouse.move(box['x'] + 140, box['y'] + 260, steps=3)
        page.mouse.up()
        page.locator(f'body:not([data-shown="{before}"])').wait_for()
        picture = np.array(page.evaluate(seen)).reshape(12, 12)
        assert picture[:, 5:7].mean() > 100
        assert picture[:, [0, 1, 10, 11]].max() == 0
        page.evaluate(FILM)
        page.locator('#camera').click()
        page.locator('#video').wait_for()
        page.locator('.stale[data-width="0.25"]').wait_for()
        values = np.array(page.evaluate(seen))
        assert np.abs(values - 0x77).max() < 12
        page.locator('#clear').click()
        page.locator('#pad').wait_for()
        # The second look at what is seen is the test's own.
        assert [text for text in complaints if 'Canvas2D' not in text] == []


def test_the_rule_of_the_page_is_that_of_the_controller(chromium, site):
    costs = [{'name': name, **cost._asdict()} for name, cost in COSTS.items()]
    rule, reasons = Rule(settle=3.0), set()
    with visited(chromium, site, '#auto') as (page, _):
        for load in ('bursts', 'throttling', 'noise'):
            times, rows = made_up_costs(load, 70, 0)
            controller, expected = Controller(COSTS, BUDGET, rule), []
            for time, row in zip(times.tolist(), rows.tolist(), strict=True):
                width = controller.width
                found = controller.observe(width, row[list(COSTS).index(width)], time)
                expected += [dataclasses.asdict(found)] if found else []
            given = {
                'costs': costs,
                'budget': BUDGET,
                'rule': dataclasses.asdict(rule),
                'names': list(COSTS),
                'times': times.tolist(),
                'rows': rows.tolist(),
            }
            assert page.evaluate(DECIDE, given) == expected
            reasons |= {decision['reason'] for decision in expected}
    assert reasons == {'urgent', 'p95', 'fits', 'trial'}


@pytest.mark.parametrize('name', ['model.onnx', BINARY, SCRIPT, 'controller.js'])
def test_a_file_that_was_replaced_never_runs(chromium, site, tmp_path, name):
    for path in site.iterdir():
        (tmp_path / path.name).symlink_to(path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content + b'\n')
    with visited(chromium, tmp_path, '#status') as (page, complaints):
        for _ in range(200):
            if any('integrity' in complaint for complaint in complaints):
                break
            page.wait_for_timeout(100)
        assert any('integrity' in complaint for complaint in complaints)
        assert page.locator('#auto').is_disabled()
        assert shown(page) == 0


def test_what_cannot_become_a_page_is_said(bundle, site, tmp_path):
    with pytest.raises(ValueError, match='exists'):
        write_demo_page(bundle, site)
    with pytest.raises(FileNotFoundError):
        write_demo_page(tmp_path / 'none', tmp_path / 'page')
    wrong = tmp_path / 'wrong.tgz'
    wrong.write_bytes(b'something else')
    with pytest.raises(ValueError, match=r'wrong\.tgz is not onnxruntime-web'):
        write_demo_page(bundle, tmp_path / 'page', onnxruntime=wrong)
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((bundle / 'manifest.json').read_text())
    for change, message in (
        ({'preprocessing': None}, 'does not say how to prepare images'),
        ({'image_shape': [12, 12, 4]}, '1 or 3 channels'),
    ):
        (tmp_path / 'manifest.json').write_text(json.dumps(manifest | change))
        with pytest.raises(ValueError, match=message):
            write_demo_page(tmp_path, tmp_path / 'page')
    assert not (tmp_path / 'page').exists()
