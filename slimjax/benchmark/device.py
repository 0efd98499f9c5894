"""What the device itself can do: its name, and its fastest matrix product."""

import os
import pathlib
import platform
import time

import jax
import jax.numpy as jnp

# Sides of the matrices: large enough for the best rate, small enough for a moment.
_SIDE = {'cpu': 2048, 'gpu': 8192, 'tpu': 8192}
_RUNS = 20


def device_name() -> str:
    """Returns what the figures were measured on, for people.

    Example:
        >>> device_name() != ''
        True
    """
    device = jax.devices()[0]
    if device.platform != 'cpu':
        return f'{jax.device_count()} x {device.device_kind}'
    return f'{processor_name()}, {os.cpu_count()} cores'


def processor_name() -> str:
    """Returns what the machine calls its processor.

    Example:
        >>> processor_name() != ''
        True
    """
    information = pathlib.Path('/proc/cpuinfo')
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(':')[2].strip() for line in lines if 'model name' in line]
    return names[0] if names else platform.processor() or platform.machine()


def matrix_tflops(dtype: str) -> float:
    """Returns the best rate that a matrix product was seen to have, in TFLOP/s.

    Args:
        dtype: type of the matrices.
    """
    side = _SIDE[jax.default_backend()]
    matrix = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
    product = jax.jit(jnp.dot)
    jax.block_until_ready(product(matrix, matrix))
    best = float('inf')
    for _ in range(_RUNS):
        start = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e12
