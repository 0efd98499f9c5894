"""A static page that runs a bundle in the browser of whoever opens it."""

import base64
import dataclasses
import hashlib
import html
import json
import os
import pathlib
from typing import Any

from slimjax.deploy.controller import Rule
from slimjax.deploy.folder import whole_folder
from slimjax.deploy.manifest import read_manifest
from slimjax.deploy.onnxruntime_web import BINARY, onnxruntime_web
from slimjax.insight.table import format_count

_FOLDER = pathlib.Path(__file__).with_name('page')
_SCRIPTS = ('page.js', 'pictures.js', 'controller.js')
_MODEL = 'model.onnx'


def write_demo_page(
    bundle: str | os.PathLike,
    output: str | os.PathLike,
    *,
    title: str = '',
    onnxruntime: str | os.PathLike | None = None,
) -> None:
    """Writes the page and all that it needs; it asks no other server for anything.

    Every file is tied to the page by its SHA-256, so that a browser runs no other.

    Args:
        bundle: an ONNX bundle, which says how images are prepared.
        output: a new folder; it appears whole or not at all.
        title: of the page; '' for the name of the bundle.
        onnxruntime: the npm package, see `onnxruntime_web`.

    Raises:
        FileNotFoundError: there is no bundle.
        OSError: ONNX Runtime cannot be fetched.
        ValueError: the bundle is damaged, no ONNX, does not say how images are
            prepared, has a file a width, or images that are neither grey nor coloured;
            or the output exists.
    """
    bundle = pathlib.Path(bundle)
    manifest = read_manifest(bundle)
    if manifest['kind'] != 'onnx':
        raise ValueError(f'{bundle}: kind={manifest["kind"]!r}; the page runs onnx')
    if not manifest['preprocessing']:
        raise ValueError(f'{bundle}: its manifest does not say how to prepare images')
    if manifest['image_shape'][2] not in (1, 3):
        raise ValueError(
            f'{bundle}: image_shape={manifest["image_shape"]}: 1 or 3 channels are '
            'expected'
        )
    source, *others = {own['file'] for own in manifest['widths'].values()}
    if others:
        raise ValueError(
            f'{bundle}: each width has a file of its own, and the page runs one file: '
            'export without --storage=w8a8'
        )
    files = onnxruntime_web(onnxruntime) | {_MODEL: (bundle / source).read_bytes()}
    for name in (*_SCRIPTS, 'page.css'):
        files[name] = (_FOLDER / name).read_bytes()
    title = title or bundle.absolute().name
    files['index.html'] = _page(title, manifest, files).encode()
    with whole_folder(output) as folder:
        for name, content in files.items():
            folder.joinpath(name).write_bytes(content)


def _page(title: str, manifest: dict[str, Any], files: dict[str, bytes]) -> str:
    values = {
        'TITLE': html.escape(title),
        'FACTS': _embedded(_facts(manifest, files)),
    }
    for name, content in files.items():
        values[f'HASH {name}'] = _integrity(content)
    page = (_FOLDER / 'page.html').read_text()
    # Piece by piece, so that what a name holds is never taken for a place.
    first, *pieces = page.split('{{')
    for piece in pieces:
        place, _, rest = piece.partition('}}')
        first += values[place] + rest
    return first


def _facts(manifest: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    names = manifest['class_names'] or range(manifest['num_classes'])
    widths = manifest['widths']
    return {
        'model': {'file': _MODEL, 'integrity': _integrity(files[_MODEL])},
        'binary': {'file': BINARY, 'integrity': _integrity(files[BINARY])},
        'imageShape': manifest['image_shape'],
        'preprocessing': manifest['preprocessing'],
        'classNames': [str(name) for name in names],
        'single': len(widths) == 1,
        'widths': [
            {
                'name': name,
                'index': own['width_index'],
                'macs': format_count(own['macs']),
                'top1': own.get('top1'),
            }
            for name, own in widths.items()
        ],
        'rule': dataclasses.asdict(Rule()),
    }


def _embedded(facts: dict[str, Any]) -> str:
    """JSON that ends no element of the page, and begins none."""
    text = json.dumps(facts, allow_nan=False)
    for sign in '<>&':
        text = text.replace(sign, f'\\u{ord(sign):04x}')
    return text


def _integrity(content: bytes) -> str:
    return 'sha256-' + base64.b64encode(hashlib.sha256(content).digest()).decode()
