"""What a bundle says of itself, and the check that it holds what it says."""

import json
import os
import pathlib
from typing import Any

from slimjax.deploy.folder import fingerprint
from slimjax.json_file import read_json

MANIFEST = 'manifest.json'
FORMAT_VERSION = 1
KINDS = ('stablehlo', 'onnx')


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


def _check(manifest: dict[str, Any]) -> None:
    """Checks that all is there that a runtime reads."""
    if manifest['kind'] not in KINDS:
        raise ValueError(f'kind={manifest["kind"]!r}')
    sizes = [*manifest['image_shape'], manifest['num_classes']]
    if len(sizes) != 4 or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(f'image_shape and num_classes are {sizes}')
    names = set()
    for name, own in manifest['widths'].items():
        if manifest['kind'] == 'onnx':
            names.add(own['file'])
            if type(own['width_index']) is not int:
                raise ValueError(f'width_index of width {name}')
        else:
            names |= {own['weights'], *own['graphs'].values()}
            own['variables'] = [str(each) for each in own['variables']]
    if not manifest['widths']:
        raise ValueError('no widths')
    for name in [*names, *manifest['files']]:
        if name not in manifest['files'] or pathlib.PurePath(name).name != name:
            raise ValueError(f'{name!r} is no file of the bundle')
    for expected in manifest['files'].values():
        known = set(expected) if isinstance(expected, dict) else set()
        if not {'bytes', 'sha256'} <= known:
            raise ValueError('files without a hash')
