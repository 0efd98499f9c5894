"""The memory of compiled programs, for people."""

import jax


def temporary_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Returns the bytes of temporaries on one device; None where XLA does not tell.

    Example:
        >>> import jax.numpy as jnp
        >>> temporary_bytes(jax.jit(jnp.sin).lower(jnp.ones(4)).compile()) >= 0
        True
    """
    analysis = compiled.memory_analysis()
    return getattr(analysis, 'temp_size_in_bytes', None)


def format_bytes(count: float) -> str:
    """Returns a number of bytes for people.

    Example:
        >>> format_bytes(999), format_bytes(3 * 2**20)
        ('999 B', '3.0 MiB')
    """
    for unit in ('B', 'KiB', 'MiB', 'GiB'):
        if count < 1024 or unit == 'GiB':
            break
        count /= 1024
    return f'{count:.0f} {unit}' if unit == 'B' else f'{count:.1f} {unit}'
