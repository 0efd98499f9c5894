"""ONNX Runtime for browsers: one version from the npm registry, its hash known."""

import base64
import hashlib
import os
import pathlib
import subprocess
import tarfile
import tempfile

VERSION = '1.30.0'
_TARBALL = f'onnxruntime-web-{VERSION}.tgz'
# As the registry states it.
_INTEGRITY = (
    'sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1S'
    'igqR4CXAfKYQ=='
)
# Computes in WebAssembly, with the code that loads it inside.
SCRIPT = 'ort.wasm.bundle.min.mjs'
BINARY = 'ort-wasm-simd-threaded.wasm'
_SHA256 = {
    SCRIPT: '11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90',
    BINARY: '3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2',
}


def onnxruntime_web(tarball: str | os.PathLike | None = None) -> dict[str, bytes]:
    """Returns the files of ONNX Runtime that a page needs.

    Args:
        tarball: the npm package, as `npm pack` fetches it; None for the one in
            `~/.cache/slimjax/npm`, or under `XDG_CACHE_HOME`, which is fetched at the
            first time.

    Returns:
        The contents of `SCRIPT` and `BINARY`, by their names.

    Raises:
        OSError: npm is not installed, or cannot fetch it; or there is no such file.
        ValueError: it is another file than it should be.
    """
    path = pathlib.Path(tarball) if tarball else _fetched()
    digest = hashlib.sha512(path.read_bytes()).digest()
    found = 'sha512-' + base64.b64encode(digest).decode()
    if found != _INTEGRITY:
        raise ValueError(
            f'{path} is not onnxruntime-web {VERSION}, but {found}, where {_INTEGRITY} '
            'is expected: remove it, or name another one'
        )
    contents = {}
    with tarfile.open(path) as archive:
        for name, expected in _SHA256.items():
            content = archive.extractfile(f'package/dist/{name}').read()
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(f'{path}: {name} is another one than it should be')
            contents[name] = content
    return contents


def _fetched() -> pathlib.Path:
    home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    folder = pathlib.Path(home, 'slimjax', 'npm')
    path = folder / _TARBALL
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = ['npm', 'pack', f'onnxruntime-web@{VERSION}', '--silent']
        try:
            done = subprocess.run(
                command, cwd=temporary, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise OSError(
                'npm is not installed, which fetches onnxruntime-web; with the package '
                'from elsewhere, --onnxruntime_web=FILE'
            ) from None
        if done.returncode:
            raise OSError(f'{" ".join(command)}: {done.stderr.strip()[-400:]}')
        os.replace(pathlib.Path(temporary, _TARBALL), path)
    return path
