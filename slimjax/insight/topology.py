"""What a program needs on a TPU that nobody has rented yet.

`libtpu` brings the real compiler to any machine, and a description of the chips is all
that it asks for. Programs are compiled, never run: the memory plan and the program text
are those of the chip.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

EXAMPLES = (
    *(f'{chip}:{shape}' for chip in ('v5e', 'v6e') for shape in ('2x2', '4x8')),
    'v5e:16x16',
    *(f'{chip}:{shape}' for chip in ('v4', 'v5p') for shape in ('2x2x1', '4x4x4')),
)
_UNITS = {'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_MOST_COMPILES = 7


@dataclasses.dataclass(frozen=True)
class ChipMemory:
    """The large memory of one chip while a program runs, in bytes.

    Attributes:
        arguments: of the program, its donated ones included.
        temporaries: its own plan of buffers.
        results: that take no argument's place.
        code: the program itself.
    """

    arguments: int
    temporaries: int
    results: int
    code: int

    @property
    def needed(self) -> int:
        """All of it together."""
        return self.arguments + self.temporaries + self.results + self.code


class OutOfMemoryError(Exception):
    """A program does not fit a chip; `needed` are its bytes, or infinity if untold."""

    def __init__(self, needed: float):
        super().__init__(f'{needed} bytes are needed')
        self.needed = needed


def topology_devices(name: str) -> list[jax.Device]:
    """Returns the devices of a topology, for which programs can be compiled.

    Args:
        name: kind and arrangement of the chips, such as `'v5e:2x2'`.

    Raises:
        ImportError: libtpu is not installed.
        ValueError: no such topology.

    Example:
        >>> import importlib.util
        >>> if importlib.util.find_spec('libtpu'):
        ...     assert len(topology_devices('v5e:2x2')) == 4
    """
    if importlib.util.find_spec('libtpu') is None:
        raise ImportError(
            f'--topology={name} asks the TPU compiler, libtpu, which is not installed: '
            "pip install 'slimjax[tpu]' brings it to any machine"
        )
    with _no_tpu_here():
        try:
            found = topologies.get_topology_desc(name, platform='tpu').devices
        except jax.errors.JaxRuntimeError as error:
            reason = str(error).partition(': ')[2] or str(error)
            raise ValueError(
                f'--topology={name} is unknown to libtpu ({reason}); it knows others '
                f'like {", ".join(EXAMPLES)}'
            ) from None
    return list(found)


@contextlib.contextmanager
def _no_tpu_here() -> Iterator[None]:
    """Tells libtpu not to look for chips, where jax found none."""
    settings = {
        'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
        'TPU_WORKER_HOSTNAMES': 'localhost',
        'TPU_LOG_DIR': 'disabled',
        # Nothing runs, so that several processes may load it at once.
        'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    }
    if 'TPU_SKIP_MDS_QUERY' not in os.environ:
        settings = {}
    added = {name: each for name, each in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def memory_limit(devices: Sequence[jax.Device]) -> int:
    """Returns the bytes of large memory that a program may use on each chip.

    It is what the compiler says when it is asked for too much, a little less than what
    is built in: 15.75 GiB of 16 on v5e.
    """
    too_much = jax.ShapeDtypeStruct((2**42,), jnp.uint8)
    everywhere = jax.NamedSharding(_mesh(devices, 'chips'), jax.P())
    program = jax.jit(jnp.negative, in_shardings=everywhere, out_shardings=everywhere)
    try:
        program.lower(too_much).compile()
    except jax.errors.JaxRuntimeError as error:
        found = re.search(
            r'exceeds available HBM \((\S+)\)|of (\S+) hbm', str(error), re.IGNORECASE
        )
        if found:
            return _bytes(found.group(1) or found.group(2))
        raise
    raise ValueError('the compiler does not tell how much memory a chip has')


def _bytes(text: str) -> int:
    number = text.rstrip(''.join(_UNITS))
    return int(float(number) * _UNITS.get(text[len(number) :], 1))


def _mesh(devices: Sequence[jax.Device], axis_name: str) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(devices), (axis_name,))


def compile_step(
    function: Callable,
    state: Any,
    batch: Any,
    devices: Sequence[jax.Device],
    axis_name: str,
) -> jax.stages.Compiled:
    """Compiles a mapped function of `(state, batch)` for devices that are not here.

    Args:
        function: what `slimjax.train.parallel.pmapped` takes: it averages over
            `axis_name` all that it returns.
        state: shapes of the state, of which every device has all.
        batch: shapes of the batch of all devices together.
        devices: what `topology_devices` returns, or any others.
        axis_name: of the mapped axis.

    Raises:
        OutOfMemoryError: the program does not fit a chip.

    Example:
        >>> batch = jax.ShapeDtypeStruct((8, 2), jnp.float32)
        >>> mean = lambda state, x: state + jax.lax.pmean(x.mean(), 'batch')
        >>> program = compile_step(
        ...     mean, jnp.float32(0), batch, jax.devices()[:1], 'batch')
        >>> chip_memory(program).arguments
        68
    """
    mapped = jax.shard_map(
        function,
        mesh=_mesh(devices, axis_name),
        in_specs=(jax.P(), jax.P(axis_name)),
        out_specs=jax.P(),
        # The function averages by itself.
        check_vma=False,
    )
    lowered = jax.jit(mapped, donate_argnums=0).lower(state, batch)
    try:
        with warnings.catch_warnings():
            # Where a persistent cache is on, jax writes such a program to it and then
            # fails to read it: only a client with chips can. `main` turns it off.
            warnings.filterwarnings('ignore', '.*persistent compilation cache')
            return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        found = re.search(r'\((\S+)\) exceeds|Used (\S+) of', str(error))
        raise OutOfMemoryError(
            _bytes(found.group(1) or found.group(2)) if found else math.inf
        ) from None


def chip_memory(compiled: jax.stages.Compiled) -> ChipMemory:
    """Returns what a compiled program needs on each device."""
    plan = compiled.memory_analysis()
    return ChipMemory(
        arguments=plan.argument_size_in_bytes,
        temporaries=plan.temp_size_in_bytes,
        results=plan.output_size_in_bytes - plan.alias_size_in_bytes,
        code=plan.generated_code_size_in_bytes,
    )


def largest_batch(
    needed: Callable[[int], float],
    limit: int,
    known: dict[int, float],
    *,
    step: int = 8,
    most: int = 4096,
) -> int:
    """Returns the largest batch whose program fits, by few compilations.

    Memory grows with the batch along a line, nearly: the parameters' part stays, the
    activations' grows. So the line through what is known says where to try next, what
    is found there narrows the place down, and the line is drawn anew. It ends where
    the line says that one step more would not fit.

    Args:
        needed: compiles for a batch; returns its bytes, infinity where the compiler
            refuses and does not tell.
        limit: bytes that fit.
        known: bytes of batches, with 0 for what does not grow and at least one other.
            What is found is added.
        step: the batches to choose from are its multiples.
        most: none above this is tried.

    Returns:
        A multiple of `step`; 0 where none fits.

    Example:
        >>> known = {0: 10, 8: 20}
        >>> largest_batch(lambda batch: 14 + batch, limit=75, known=known)
        56
        >>> list(known)
        [0, 8, 48, 56]
    """
    while True:
        fits = sorted(batch for batch, size in known.items() if size <= limit)
        over = sorted(batch for batch, size in known.items() if size > limit)
        if not fits:
            return 0
        best = fits[-1] // step * step
        one, other = (fits[-1], over[0]) if over else fits[-2:]
        if math.isinf(known[other]):
            guess = (one + other) // 2
        else:
            slope = (known[other] - known[one]) / (other - one)
            guess = int(one + (limit - known[one]) / max(slope, 1e-9))
        if over:
            guess = min(guess, over[0] - 1)
        guess = min(guess, most) // step * step
        if guess <= best or len(known) > _MOST_COMPILES:
            return best
        known[guess] = needed(guess)
