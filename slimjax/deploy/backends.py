"""What computes a bundle's widths: ONNX Runtime, JAX or LiteRT."""

import os
import pathlib
import re
import threading
from typing import Any, Protocol

import numpy as np

from slimjax.deploy.manifest import IMAGES, LOGITS, MANIFEST, outputs_of

# Asks at run time whether shapes are as they were when the program was exported.
_HARMLESS = {'shape_assertion'}


class Backend(Protocol):
    """Computes what the manifest states; may be called by several threads."""

    def run(self, name: str, images: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs of images at a width, in the order of the manifest."""


class OnnxBackend:
    """A session of ONNX Runtime for each file: for all widths, or for each its own.

    Args:
        folder: the bundle.
        manifest: what it says of itself, checked.
        threads: how many compute a request; 0 for as many as there are cores.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: ONNX Runtime does not take a file, or it is not what the manifest
            says.
    """

    def __init__(self, folder: pathlib.Path, manifest: dict[str, Any], threads: int):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "an ONNX bundle takes onnxruntime: pip install 'slimjax[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        stated = {}
        for name, own in manifest['widths'].items():
            stated.setdefault(own['file'], []).append((own['width_index'], name))
        self._outputs, self._runs = list(outputs_of(manifest)), {}
        for file, places in stated.items():
            path = folder / file
            try:
                # From bytes, so that no weights of a file without a hash are read.
                session = onnxruntime.InferenceSession(
                    path.read_bytes(), options, providers=['CPUExecutionProvider']
                )
            except Exception as error:
                raise ValueError(f'{path}: {error}') from error
            held = session.get_modelmeta().custom_metadata_map.get('widths', '')
            if sorted(places) != list(enumerate(held.split(','))):
                raise ValueError(
                    f'{path} has the widths {held}, not those of {MANIFEST}'
                )
            for place, name in places:
                index = {'width_index': np.array(place, np.int64)}
                self._runs[name] = session, index if len(places) > 1 else {}

    def run(self, name: str, images: np.ndarray) -> list[np.ndarray]:
        session, index = self._runs[name]
        return session.run(self._outputs, {IMAGES: images, **index})


class StableHloBackend:
    """JAX, with the weights on the device once and a compiled program a width.

    A program is compiled for each number of images that it is given.

    Args:
        folder: the bundle.
        manifest: what it says of itself, checked.
        target: `'cpu'` or `'other'`, which programs; None for those of the device.

    Raises:
        ValueError: a file is no exported program, or one that calls code outside of it.
    """

    def __init__(
        self, folder: pathlib.Path, manifest: dict[str, Any], target: str | None = None
    ):
        import jax
        from safetensors.numpy import load_file

        if target is None:
            target = 'cpu' if jax.default_backend() == 'cpu' else 'other'
        self._outputs = list(outputs_of(manifest))
        widths = manifest['widths']
        path = folder / next(iter(widths.values()))['weights']
        try:
            weights = jax.device_put(load_file(path))
            self._programs = {}
            for name, own in widths.items():
                path = folder / own['graphs'][target]
                program = jax.jit(_program(path).call)
                variables = {each: weights[each] for each in own['variables']}
                self._programs[name] = program, variables
        except KeyError as error:
            raise ValueError(f'{folder / MANIFEST}: {path} lacks {error}') from error
        except Exception as error:
            raise ValueError(f'{path}: {error}') from error

    def run(self, name: str, images: np.ndarray) -> list[np.ndarray]:
        program, variables = self._programs[name]
        found = program(variables, images)
        named = found if isinstance(found, dict) else {LOGITS: found}
        return [np.asarray(named[key]) for key in self._outputs]


class LiteRtBackend:
    """LiteRT, which runs one image after the other, and one request after the other.

    Args:
        folder: the bundle.
        manifest: what it says of itself, checked.
        threads: how many compute a request; 0 for as many as there are cores.

    Raises:
        ImportError: ai-edge-litert is not installed.
        ValueError: LiteRT does not take the file, or it is not what the manifest says.
    """

    def __init__(self, folder: pathlib.Path, manifest: dict[str, Any], threads: int):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "a LiteRT bundle takes ai-edge-litert: pip install 'slimjax[litert]'"
            ) from error
        widths = manifest['widths']
        path = folder / next(iter(widths.values()))['file']
        try:
            interpreter = Interpreter(
                model_content=path.read_bytes(), num_threads=threads or os.cpu_count()
            )
            held = sorted(interpreter.get_signature_list())
            stated = sorted(own['signature'] for own in widths.values())
            if held != stated or len({own['file'] for own in widths.values()}) > 1:
                raise ValueError(f'it has {held}, not what {MANIFEST} says')
            self._runners = {
                name: interpreter.get_signature_runner(own['signature'])
                for name, own in widths.items()
            }
            for runner in self._runners.values():
                # An image of another size might pass all the same.
                taken = runner.get_input_details()[IMAGES]['shape'].tolist()
                if taken != [1, *manifest['image_shape']]:
                    raise ValueError(f'it takes {taken}, not what {MANIFEST} says')
        except Exception as error:
            raise ValueError(f'{path}: {error}') from error
        self._outputs = list(outputs_of(manifest))
        self._one_at_a_time = threading.Lock()

    def run(self, name: str, images: np.ndarray) -> list[np.ndarray]:
        runner = self._runners[name]
        with self._one_at_a_time:
            found = [runner(**{IMAGES: image[None]}) for image in images]
        return [np.concatenate([each[key] for each in found]) for key in self._outputs]


def _program(path: pathlib.Path):
    from jax import export

    found = export.deserialize(bytearray(path.read_bytes()))
    # A custom call may be any function of the process, a Python callback included.
    calls = set(re.findall(r'custom_call\b(?:\s+@"?([\w.$]+))?', found.mlir_module()))
    if not calls <= _HARMLESS:
        unknown = ', '.join(sorted(calls - _HARMLESS)) or 'something without a name'
        raise ValueError(f'it calls {unknown}')
    return found
