"""How the C library handles the memory of training steps on the CPU."""

import ctypes
import importlib.util
import platform

import jax

# Names and numbers of glibc's malloc.h: nothing goes back to the system, and blocks
# of any size come from the one heap that is kept.
_OPTIONS = {
    'M_ARENA_MAX': (-8, 1),
    'M_MMAP_MAX': (-4, 0),
    'M_TRIM_THRESHOLD': (-1, 2**31 - 1),
}


def keep_freed_memory() -> bool:
    """Asks the C library to keep memory that is freed, for the next step.

    A step on the CPU takes its temporaries anew and gives them back at its end; by
    default the system then has to find and clear every page again, a tenth of the
    time of a MobileNet's step. The process holds its largest size until it ends.

    To be called before anything asks jax for its devices. That starts threads, which
    take heaps of their own, and what comes from those is given back all the same: a
    step then gains or not as it happens to be allocated by the one thread or the other.

    Returns:
        Whether it was done: only glibc can be asked, and it is of no use where a GPU or
        TPU may do the work.
    """
    if platform.libc_ver()[0] != 'glibc' or not _cpu_alone():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(number, value) for number, value in _OPTIONS.values())


def _cpu_alone() -> bool:
    """Whether jax will run on the CPU, told without asking it."""
    if jax.config.jax_platforms:
        return jax.config.jax_platforms == 'cpu'
    return not any(map(importlib.util.find_spec, ('jax_plugins', 'libtpu')))
