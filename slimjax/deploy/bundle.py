"""Writing a bundle: all widths for other runtimes, checked, measured, in one folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slimjax.benchmark.device import processor_name
from slimjax.deploy.backends import StableHloBackend
from slimjax.deploy.folder import whole_folder
from slimjax.deploy.litert_bundle import write_litert
from slimjax.deploy.manifest import KINDS, STORAGES, write_manifest
from slimjax.deploy.measure import IMAGES, compared_with_jax, latencies
from slimjax.deploy.onnx_bundle import runs_alone, write_onnx
from slimjax.deploy.runtime import Runtime, load
from slimjax.deploy.stablehlo import write_stablehlo
from slimjax.detection.backbone import PyramidBackbone
from slimjax.insight.cost import cost_results
from slimjax.models import SlimmableClassifier
from slimjax.train import report
from slimjax.width import widest_first

# Of the images for calibration: JAX computes them at once.
_COMPARED = 32

Score = Callable[[Runtime], Mapping[str, float]]


def export_bundle(
    output: str | os.PathLike,
    model: SlimmableClassifier | PyramidBackbone,
    variables: Mapping[str, Any],
    *,
    to: str,
    image_shape: tuple[int, int, int] = (224, 224, 3),
    storage: str = 'float32',
    calibration: np.ndarray | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    score: Score | None = None,
    threads: int = 0,
    repeats: int = 50,
    time_alone: bool = False,
) -> dict[str, Any]:
    """Writes a network with all widths for `slimjax.deploy.load` and other runtimes.

    Every width is compared with JAX, on random images, before the folder appears.

    Args:
        output: a new folder; it appears whole or not at all.
        model: of one of slimjax's families, or a detector's backbone, see
            `slimjax.detection.backbone_of`. It is exported in float32.
        variables: of the model.
        to: `'stablehlo'`, read by JAX alone, `'onnx'` or `'litert'`.
        image_shape: height and width in pixels, and channels.
        storage: of kernels: `'float32'`; in ONNX `'float16'` or `'int8'` too, which
            are computed with in float32; in ONNX and LiteRT `'w8a8'`, which computes in
            8-bit integers, and is not for backbones.
        calibration: for w8a8, images `[number, height, width, channels]`, prepared as
            those to come, float32. They say what range each integer has to span, and
            the bundle is compared with JAX on the first 32.
        preprocessing: `{'mean', 'std', ...}`, what was done to pixels in 0..1.
        class_names: by the number of the class.
        score: top-1 accuracy of each width, by its name, of the bundle at work.
        threads: of ONNX Runtime or LiteRT, where the latency is measured; 0 for one a
            core.
        repeats: timed runs of each width, with one image.
        time_alone: times each width in an ONNX file of its own too, in turn with all;
            not of w8a8, where each is in a file of its own anyway.

    Returns:
        What `manifest.json` holds, but for the hashes of the files.

    Raises:
        ImportError: a package of the extra `onnx` or `litert` is not installed.
        ValueError: the folder exists, a form or storage is unknown, or a width differs
            from JAX.

    Example:
        >>> import pathlib, tempfile, slimjax
        >>> fields = {'stage_sizes': (1,), 'base_features': 8, 'widths': (0.5, 1.0)}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> output = pathlib.Path(tempfile.mkdtemp(), 'bundle')
        >>> manifest = export_bundle(
        ...     output, model, variables, to='stablehlo', image_shape=(32, 32, 3)
        ... )
        >>> load(output).infer(np.ones((2, 32, 32, 3), np.float32), width=0.5).shape
        (2, 10)
    """
    if to not in KINDS:
        raise ValueError(f'to={to!r}; allowed are {", ".join(KINDS)}')
    if time_alone and (to != 'onnx' or storage == 'w8a8'):
        raise ValueError('time_alone is for ONNX with all widths in one file')
    if storage not in STORAGES[to]:
        raise ValueError(
            f'storage={storage!r}; allowed for {to} are {", ".join(STORAGES[to])}'
        )
    if storage == 'w8a8' and isinstance(model, PyramidBackbone):
        raise ValueError(f"storage={storage!r} is not for a detector's backbone")
    _check_calibration(calibration, storage, image_shape)
    model = model.clone(dtype=jnp.float32, param_dtype=jnp.float32)
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), dict(variables))
    widths = widest_first(model.widths)
    outputs = _outputs(model, variables, image_shape)
    costs = cost_results(model, image_shape)['widths']
    write = {
        'stablehlo': write_stablehlo,
        'onnx': partial(write_onnx, storage=storage, calibration=calibration),
        'litert': partial(write_litert, calibration=calibration),
    }[to]
    # Some devices multiply in bfloat16 otherwise, and would differ from ONNX Runtime.
    with jax.default_matmul_precision('highest'), whole_folder(output) as folder:
        facts = write(folder, model, variables, image_shape, widths)
        for name, own in facts['widths'].items():
            own |= {key: costs[name][key] for key in ('params', 'macs')}
        manifest = {
            'kind': to,
            'storage': storage,
            'image_shape': list(image_shape),
            **outputs,
            'preprocessing': preprocessing and dict(preprocessing),
            'class_names': list(class_names),
            'versions': report.versions(),
            **facts,
        }
        write_manifest(folder, manifest)
        runtime = load(folder, batch_sizes=(1, IMAGES), threads=threads)
        compared = partial(
            compared_with_jax,
            model=model,
            variables=variables,
            widths=widths,
            storage=storage,
            images=None if calibration is None else calibration[:_COMPARED],
        )
        if to == 'stablehlo':
            # What other devices run must be right too.
            compared(Runtime(manifest, StableHloBackend(folder, manifest, 'other')))
        differences = compared(runtime)
        runs = {name: partial(runtime.infer, width=name) for name in runtime.widths}
        if time_alone:
            runs |= runs_alone(
                folder,
                model,
                variables,
                image_shape,
                widths,
                storage,
                threads,
                outputs,
            )
        times = latencies(runs, image_shape, repeats)
        scores = {} if score is None else score(runtime)
        for name, own in facts['widths'].items():
            own |= {**differences[name], **times[name], 'top1': scores.get(name)}
        manifest['latency_of'] = {
            'processor': processor_name(),
            'cores': os.cpu_count(),
            'threads': None if to == 'stablehlo' else threads,
            'images': 1,
            'repeats': repeats,
        }
        write_manifest(folder, manifest)
    return manifest


def _outputs(model, variables, image_shape) -> dict[str, Any]:
    """What the manifest tells of the shapes of what comes out."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    found = jax.eval_shape(model.apply, variables, images)
    if not isinstance(found, Mapping):
        return {'num_classes': found.shape[1]}
    return {'outputs': {name: list(each.shape[1:]) for name, each in found.items()}}


def _check_calibration(images: np.ndarray | None, storage: str, image_shape) -> None:
    """Refuses images of no use, or of which integers cannot be made."""
    if (images is None) == (storage == 'w8a8'):
        raise ValueError(
            f'calibration is {"missing" if images is None else "given"}, and storage='
            f'{storage!r}: images of the training set are for w8a8, and no other'
        )
    if images is None:
        return
    shape, dtype = np.shape(images), getattr(images, 'dtype', None)
    if shape[1:] != tuple(image_shape) or not shape[0] or dtype != np.float32:
        raise ValueError(
            f'calibration is {dtype}{list(shape)}: float32 images of '
            f'{list(image_shape)} are expected, one and more'
        )
