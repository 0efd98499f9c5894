"""The one file that knows `pmap`, and how batches and state reach the devices."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

AXIS = 'batch'


def _local_mesh() -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))


def pmapped(
    function: Callable,
    *,
    donate: bool | tuple[int, ...] = False,
    in_axes: tuple[int | None, ...] = (None, 0),
    out_axes: int | None = None,
) -> Callable:
    """Maps `function(state, batch)` over all devices of all processes.

    What has no device axis, such as the state, is the same everywhere. Where that is so
    of what is returned, `function` must average it over `AXIS`, which nothing checks.

    Args:
        function: takes a state and a device's part of the batch.
        donate: whether the state's buffers are given up to the result; or the
            positions of the arguments of which that holds.
        in_axes: 0 for arguments with a device axis in front, None for the others.
        out_axes: 0 if all that is returned gets a device axis, None if nothing does.

    Example:
        >>> import jax.numpy as jnp
        >>> total = pmapped(lambda state, x: state + jax.lax.psum(x.sum(), AXIS))
        >>> batch = jnp.ones((jax.local_device_count(), 2))
        >>> float(total(replicated(jnp.float32(1)), batch)) >= 3
        True
    """
    return jax.pmap(
        function,
        axis_name=AXIS,
        in_axes=in_axes,
        out_axes=out_axes,
        donate_argnums=(0,) if donate is True else donate or (),
    )


def averaged(tree: Any, axis_name: str) -> Any:
    """Returns the mean of `tree` over devices, taken in one exchange.

    Scalars and vectors travel as one array: an all-reduce of a TPU takes 256 arrays at
    most, and the norms of four widths are hundreds.

    Args:
        tree: floating arrays, of the same shapes on all devices.
        axis_name: the mapped axis.

    Example:
        >>> mean = jax.vmap(lambda x: averaged({'a': x}, 'i'), axis_name='i')
        >>> mean(np.array([1.0, 3.0], np.float32))['a'].tolist()
        [2.0, 2.0]
    """
    leaves, structure = jax.tree.flatten(tree)
    # In runs of float64, metrics are of another type than gradients.
    with jax.numpy_dtype_promotion('standard'):
        packed, unpacked = ravel_pytree([leaf for leaf in leaves if leaf.ndim < 2])
    others = [leaf for leaf in leaves if leaf.ndim >= 2]
    packed, others = lax.pmean((packed, others), axis_name)
    small, large = iter(unpacked(packed)), iter(others)
    return structure.unflatten(
        next(small if leaf.ndim < 2 else large) for leaf in leaves
    )


def replicated(tree: Any) -> Any:
    """Places `tree` whole on every local device, as `pmapped` functions expect it.

    A donated state that is placed otherwise crashes several processes.

    Example:
        >>> replicated({'a': np.ones(2)})['a'].is_fully_replicated
        True
    """
    sharding = jax.NamedSharding(_local_mesh(), jax.P())
    # A copy: on the CPU, device_put may alias a numpy array, whose memory the
    # donated state must not share.
    return jax.device_put(tree, sharding, may_alias=False)


def abstract_over_devices(tree: Any) -> Any:
    """Returns the shapes of a tree whose leaves have a device axis, and where it lies.

    Example:
        >>> shape = (jax.local_device_count(), 2)
        >>> abstract_over_devices({'x': np.ones(shape)})['x'].shape == shape
        True
    """
    sharding = jax.NamedSharding(_local_mesh(), jax.P(AXIS))
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
    )


def split_over_devices(batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Sends each local device its part of a batch, `[devices, examples, ...]`.

    Example:
        >>> batch = split_over_devices({'label': np.arange(jax.local_device_count())})
        >>> batch['label'].shape == (jax.local_device_count(), 1)
        True
    """
    devices = jax.local_device_count()
    sharding = jax.NamedSharding(_local_mesh(), jax.P(AXIS))
    return {
        name: jax.device_put(values.reshape(devices, -1, *values.shape[1:]), sharding)
        for name, values in batch.items()
    }


def joined_examples(tree: Any) -> Any:
    """Returns this process's part of what a mapped function returned, on the host.

    Args:
        tree: of arrays `[devices, examples, ...]`, such as `pmapped(..., out_axes=0)`
            returns.

    Returns:
        numpy arrays `[examples, ...]`, in the order of `split_over_devices`.

    Example:
        >>> sent = split_over_devices({'x': np.arange(2 * jax.local_device_count())})
        >>> double = pmapped(lambda state, batch: 2 * batch['x'], out_axes=0)
        >>> joined_examples(double(None, sent))[:2].tolist()
        [0, 2]
    """

    def join(leaf):
        shards = sorted(
            leaf.addressable_shards, key=lambda each: each.index[0].start or 0
        )
        whole = np.concatenate([np.asarray(each.data) for each in shards])
        return whole.reshape(-1, *leaf.shape[2:])

    return jax.tree.map(join, tree)


def prefetched(
    batches: Iterable[Mapping[str, np.ndarray]], ahead: int = 2
) -> Iterator[dict[str, Array]]:
    """Yields batches on the devices, `ahead` of which are sent before they are used.

    Example:
        >>> [int(b['x'].sum()) for b in prefetched(
        ...     [{'x': np.ones(jax.local_device_count())}])][0] > 0
        True
    """
    source = iter(batches)
    queue = collections.deque()
    for batch in source:
        queue.append(split_over_devices(batch))
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue


def shared_between_devices(batch_size: int, name: str = 'batch_size') -> int:
    """Returns how many examples each process reads of a batch of all devices.

    Args:
        batch_size: examples in a batch of all devices.
        name: the field that says so.

    Raises:
        ValueError: the devices do not divide the batch.

    Example:
        >>> shared_between_devices(jax.device_count()) == jax.local_device_count()
        True
    """
    devices = jax.device_count()
    if batch_size % devices:
        below = batch_size // devices * devices
        nearest = f'{below} or {below + devices}' if below else str(devices)
        raise ValueError(
            f'config.{name}={batch_size} does not divide over {devices} devices; '
            f'try {nearest}'
        )
    return batch_size // devices * jax.local_device_count()
