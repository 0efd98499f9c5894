"""The recipe of docs/serving.md, as it stands there, batches by width and refuses."""

import concurrent.futures
import importlib.util
import json
import socket
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request

import jax
import numpy as np
import pytest

from tests.commands import ROOT, environment
from tests.deploy.networks import drawn, tiny, write_bundle

SHAPE = (8, 8, 1)
# It imports no JAX to start, but what loads a bundle does.
SECONDS = 120


def recipe():
    """The Python file of the page."""
    page = ROOT.joinpath('docs', 'serving.md').read_text()
    return page.partition('<!-- serve.py -->\n```python\n')[2].partition('```\n')[0]


class Worker:
    """Of mosec, as far as the recipe uses it: requests are JSON."""

    def deserialize(self, data):
        return json.loads(data)


@pytest.fixture(scope='module')
def network():
    model, _ = tiny()
    return model, drawn(model, SHAPE)


@pytest.fixture(scope='module')
def address(network, tmp_path_factory):
    """Of the recipe at work."""
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    if importlib.util.find_spec('mosec') is None:
        pytest.skip("needs mosec, of the extra 'dev'")
    folder = tmp_path_factory.mktemp('served')
    write_bundle(folder / 'bundle', *network, SHAPE)
    folder.joinpath('serve.py').write_text(recipe())
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    address = f'http://127.0.0.1:{port}'
    options = ['--address=127.0.0.1', f'--port={port}', f'--path={folder / "sockets"}']
    with folder.joinpath('log').open('w') as log:
        server = subprocess.Popen(
            [sys.executable, 'serve.py', *options, '--timeout=60000'],
            cwd=folder,
            env={**environment(), 'BUNDLE': str(folder / 'bundle')},
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(SECONDS):
            time.sleep(1)
            if server.poll() is not None:
                break
            try:
                status, _ = ask(address, image=np.zeros(SHAPE).tolist())
            except OSError:
                continue
            if status == 200:
                break
        else:
            server.terminate()
        assert server.poll() is None, folder.joinpath('log').read_text()
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def ask(address, **request):
    """The status and body of an answer."""
    asked = urllib.request.Request(
        f'{address}/inference', json.dumps(request).encode(), method='POST'
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_batch_runs_once_at_each_width_that_is_asked(network, tmp_path, monkeypatch):
    """Without mosec; what it adds is for the tests below."""
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    write_bundle(tmp_path / 'bundle', *network, SHAPE)
    errors = types.SimpleNamespace(ValidationError=ValueError)
    monkeypatch.setitem(
        sys.modules, 'mosec', types.SimpleNamespace(Worker=Worker, Server=None)
    )
    monkeypatch.setitem(sys.modules, 'mosec.errors', errors)
    monkeypatch.setenv('BUNDLE', str(tmp_path / 'bundle'))
    names = {'__name__': 'recipe'}
    exec(recipe(), names)
    worker = names['Network']()
    asked = []
    infer = worker.runtime.infer

    def counted(images, width):
        asked.append((width, len(images)))
        return infer(images, width)

    monkeypatch.setattr(worker.runtime, 'infer', counted)
    images = np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float32)
    widths = ['0.5', '1.0', '0.5', '0.25', '0.5']
    answers = worker.forward(
        [
            worker.deserialize(json.dumps({'image': image.tolist(), 'width': width}))
            for image, width in zip(images, widths, strict=True)
        ]
    )
    assert asked == [('0.5', 3), ('1.0', 1), ('0.25', 1)]
    for image, width, answer in zip(images, widths, answers, strict=True):
        assert answer['width'] == width
        np.testing.assert_allclose(answer['logits'], infer(image[None], width)[0], 1e-5)
    with pytest.raises(ValueError, match=r'allowed are 1\.0, 0\.5, 0\.25'):
        worker.deserialize(json.dumps({'image': images[0].tolist(), 'width': '0.3'}))


@pytest.mark.slow
def test_requests_of_mixed_widths_get_their_own(address, network):
    model, variables = network
    images = np.random.default_rng(0).normal(size=(24, *SHAPE)).astype(np.float32)
    widths = [('1.0', '0.5', '0.25')[number % 3] for number in range(24)]
    expected = {
        width: jax.jit(lambda v, x, w=float(width): model.apply(v, x, width=w))(
            variables, images
        )
        for width in set(widths)
    }
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(
            pool.map(
                lambda image, width: ask(address, image=image.tolist(), width=width),
                images,
                widths,
            )
        )
    for number, (width, (status, answer)) in enumerate(
        zip(widths, answers, strict=True)
    ):
        assert (status, answer['width']) == (200, width)
        logits = expected[width][number]
        np.testing.assert_allclose(answer['logits'], logits, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_wrong_request_is_told_what_is_allowed(address):
    image = np.zeros(SHAPE).tolist()
    for request, message in (
        ({'image': image, 'width': '0.3'}, 'allowed are 1.0, 0.5, 0.25'),
        ({'image': image[:-1]}, '[8, 8, 1] numbers are expected'),
        ({'image': 'a picture'}, 'could not convert'),
        ({'width': '0.5'}, "'image'"),
    ):
        status, body = ask(address, **request)
        assert status == 422
        assert message in body
    assert ask(address, image=image)[0] == 200
