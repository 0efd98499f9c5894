"""The program that docs/own_models.md is, as a module."""

import contextlib
import functools
import pathlib
import re
import sys
import types

import jax

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'own_models.md'


@contextlib.contextmanager
def as_users_have_it():
    """Leaves jax as lenient as it is by default."""
    with jax.numpy_rank_promotion('allow'), jax.numpy_dtype_promotion('standard'):
        yield


@functools.cache
def own_models() -> types.ModuleType:
    """Returns the module, run once."""
    blocks = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    module = types.ModuleType('own_models')
    # Dataclasses look their module up.
    sys.modules[module.__name__] = module
    with as_users_have_it():
        exec(compile('\n'.join(blocks), str(PAGE), 'exec'), module.__dict__)
    return module
