"""What a bundle says of itself, and the check that it holds what it says."""

import itertools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from slimjax.deploy.folder import fingerprint
from slimjax.json_file import read_json

MANIFEST = 'manifest.json'
FORMAT_VERSION = 1
# How kernels may be stored in each kind; w8a8 computes in integers too.
STORAGES = {
    'stablehlo': ('float32',),
    'onnx': ('float32', 'float16', 'int8', 'w8a8'),
    'litert': ('float32', 'w8a8'),
}
KINDS = tuple(STORAGES)
# What a network takes and gives, in ONNX and LiteRT.
IMAGES, LOGITS = 'images', 'logits'


def signature_name(width: str) -> str:
    """Returns what a width's signature is called in a LiteRT model, or its own file."""
    return f'width_{width}'


def write_manifest(folder: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Writes a manifest beside the files of a bundle, with the hash of each."""
    files = {
        path.name: fingerprint(path)
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    whole = {
        'format_version': FORMAT_VERSION,
        **manifest,
        'files': files,
        'bytes': sum(each['bytes'] for each in files.values()),
    }
    folder.joinpath(MANIFEST).write_text(
        json.dumps(whole, indent=2, allow_nan=False) + '\n'
    )


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns what the manifest of a bundle holds, after checking every file.

    Raises:
        FileNotFoundError: there is no bundle.
        ValueError: the manifest or a file is damaged, cut short or another one.
    """
    path = pathlib.Path(folder, MANIFEST)
    try:
        manifest = read_json(path)
        version = manifest['format_version']
        if version != FORMAT_VERSION:
            raise ValueError(
                f'format_version={version!r}; this slimjax reads {FORMAT_VERSION}'
            )
        _check(manifest)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path}: damaged, or no manifest of a bundle: {error}'
        ) from error
    for name, expected in manifest['files'].items():
        file = path.with_name(name)
        if not file.is_file():
            raise ValueError(f'{file}: missing from the bundle')
        found = fingerprint(file)
        for what in ('bytes', 'sha256'):
            if found[what] != expected[what]:
                raise ValueError(
                    f'{file}: damaged or replaced: {what} is {found[what]}, and '
                    f'{expected[what]} in {MANIFEST}'
                )
    return manifest


def outputs_of(manifest: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the names and the shapes, without the batch, of what a bundle computes.

    Those are logits, or the maps of a backbone.

    Example:
        >>> outputs_of({'num_classes': 10})
        {'logits': (10,)}
    """
    if 'outputs' in manifest:
        return {name: tuple(shape) for name, shape in manifest['outputs'].items()}
    return {LOGITS: (manifest['num_classes'],)}


def _check(manifest: dict[str, Any]) -> None:
    """Checks that all is there that a runtime reads."""
    if manifest['kind'] not in KINDS:
        raise ValueError(f'kind={manifest["kind"]!r}')
    shape, outputs = manifest['image_shape'], outputs_of(manifest)
    sizes = [*shape, *itertools.chain(*outputs.values())]
    if len(shape) != 3 or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(f'image_shape is {shape}, and what it gives {outputs}')
    names = set()
    for name, own in manifest['widths'].items():
        if manifest['kind'] == 'stablehlo':
            names |= {own['weights'], *own['graphs'].values()}
            own['variables'] = [str(each) for each in own['variables']]
            continue
        names.add(own['file'])
        if manifest['kind'] == 'onnx' and type(own['width_index']) is not int:
            raise ValueError(f'width_index of width {name}')
        if manifest['kind'] == 'litert' and own['signature'] != signature_name(name):
            raise ValueError(f'signature of width {name}')
    if not manifest['widths']:
        raise ValueError('no widths')
    for name in [*names, *manifest['files']]:
        if name not in manifest['files'] or pathlib.PurePath(name).name != name:
            raise ValueError(f'{name!r} is no file of the bundle')
    for expected in manifest['files'].values():
        known = set(expected) if isinstance(expected, dict) else set()
        if not {'bytes', 'sha256'} <= known:
            raise ValueError('files without a hash')
