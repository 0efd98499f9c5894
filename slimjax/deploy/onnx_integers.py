"""An ONNX model of one width that computes in 8-bit integers.

One width alone: norms are part of its kernels, and each of its output channels has a
scale of its own, so that widths in one file would have no kernel in common.
"""

import pathlib
import tempfile

import numpy as np
import onnx
from jaxtyping import Float
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from slimjax.deploy.manifest import IMAGES


def in_integers(
    model: onnx.ModelProto, images: Float[np.ndarray, 'batch height width channels']
) -> onnx.ModelProto:
    """Returns an ONNX model whose kernels and values are 8-bit integers.

    Its inputs and outputs stay float32. Kernels have a scale for each output channel,
    values one for each place in the network, made of the largest and smallest there.

    Values are unsigned: of signed ones ONNX Runtime computes a part in float32 on x86.
    Kernels are signed, in -64..64: x86 without VNNI adds two products up in 16 bits,
    which larger ones overflow, and so would compute something else than was checked.

    Args:
        model: what `slimjax.deploy.onnx_file.onnx_model` returned for one width.
        images: of the kind that the model will see, prepared alike.

    Raises:
        ValueError: an operation that ONNX Runtime's quantiser does not take.

    Example:
        >>> import jax, slimjax
        >>> from slimjax.deploy.onnx_file import onnx_model
        >>> layer = slimjax.SlimConv(8, 3, widths=(0.5, 1.0))
        >>> images = np.ones((2, 8, 8, 3), np.float32)
        >>> variables = layer.init(jax.random.key(0), images)
        >>> found = in_integers(
        ...     onnx_model(layer, variables, (8, 8, 3), widths=(0.5,)), images
        ... )
        >>> kinds = {each.data_type for each in found.graph.initializer}
        >>> onnx.TensorProto.INT8 in kinds
        True
    """
    with tempfile.TemporaryDirectory() as folder:
        names = 'float.onnx', 'prepared.onnx', 'integers.onnx'
        floats, prepared, integers = (pathlib.Path(folder, name) for name in names)
        floats.write_bytes(model.SerializeToString())
        try:
            # A kernel has to stand as it is used: here it is cut out of the stored one.
            quant_pre_process(floats, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                integers,
                _OneByOne(images),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            found = onnx.load(integers)
            # The first step adds every set of operations that it knows.
            del found.opset_import[:]
            found.opset_import.extend(model.opset_import)
            onnx.checker.check_model(found)
        except Exception as error:
            raise ValueError(
                f"ONNX Runtime's quantiser does not take this network; float32 does: "
                f'{error}'
            ) from error
    return found


class _OneByOne(CalibrationDataReader):
    def __init__(self, images: np.ndarray):
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {IMAGES: image[None]}
