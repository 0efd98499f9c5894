"""Compiled programs that outlive the process, so that a restart begins at once."""

import os
import pathlib

import jax

# The least recently used programs go; those of a recipe take some tens of MiB.
_MOST_BYTES = 10 * 2**30


def use_compile_cache() -> None:
    """Keeps compiled programs in `~/.cache/slimjax/jax`, or under `XDG_CACHE_HOME`.

    A folder that the user chose by `JAX_COMPILATION_CACHE_DIR` is left as it is, and
    `JAX_ENABLE_COMPILATION_CACHE=false` switches the cache off.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    folder = pathlib.Path(home, 'slimjax', 'jax')
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_compilation_cache_max_size', _MOST_BYTES)
    # A start compiles hundreds of small programs, each in less than jax's threshold.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
