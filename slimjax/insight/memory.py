"""The memory of compiled programs, for people."""

import os

import jax

_UNITS = (('KiB', 2**10), ('MiB', 2**20), ('GiB', 2**30), ('TiB', 2**40))


def temporary_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Returns the bytes of temporaries on one device; None where XLA does not tell.

    Example:
        >>> import jax.numpy as jnp
        >>> temporary_bytes(jax.jit(jnp.sin).lower(jnp.ones(4)).compile()) >= 0
        True
    """
    return getattr(compiled.memory_analysis(), 'temp_size_in_bytes', None)


def physical_memory() -> int:
    """Returns the bytes of memory of this machine.

    Example:
        >>> physical_memory() > 2**20
        True
    """
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def format_bytes(count: float) -> str:
    """Returns a number of bytes for people.

    Example:
        >>> format_bytes(999), format_bytes(3 * 2**20)
        ('999 B', '3.0 MiB')
    """
    if count < 1024:
        return f'{count:.0f} B'
    # What would read as 1024.0 of a unit belongs to the next one.
    unit, size = next(
        ((unit, size) for unit, size in _UNITS if count < 1023.95 * size), _UNITS[-1]
    )
    return f'{count / size:.1f} {unit}'
