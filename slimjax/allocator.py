"""How the C library handles the memory of training steps on the CPU."""

import ctypes
import platform

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

    Returns:
        Whether it was done: only glibc can be asked.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(number, value) for number, value in _OPTIONS.values())
