"""How the CPU's compiler makes the loops of a program, in tests.

jax 0.10 has its older emitters still, which take a quarter of the time of the new ones.
A later jax ends at a flag that it does not know.
"""

import importlib.metadata

_HAS_OLD = importlib.metadata.version('jax').startswith('0.10.')
_FLAG = 'xla_cpu_use_fusion_emitters'

OLD_EMITTERS = {_FLAG: False} if _HAS_OLD else {}
# Options of `jax.jit` where a test is about the last bit: how the older ones round may
# depend on what stands beside a loop.
AS_USERS_HAVE_IT = {_FLAG: True} if _HAS_OLD else {}
