"""A hostile place to test in: strict types, four devices, warnings are errors."""

import os
import pathlib

from tests.emitters import OLD_EMITTERS

ROOT = pathlib.Path(__file__).parents[1]

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Compiling takes most of the time of these tests, and LLVM's optimiser most of that.
# The program that it gets, its memory plan included, is the same.
os.environ['XLA_FLAGS'] = ' '.join(
    [
        os.environ.get('XLA_FLAGS', ''),
        '--xla_force_host_platform_device_count=4',
        '--xla_backend_optimization_level=0',
        '--xla_llvm_disable_expensive_passes=true',
        *(f'--{name}={value}'.lower() for name, value in OLD_EMITTERS.items()),
        # On a busy machine four devices may wait for one another for long.
        '--xla_cpu_collective_call_terminate_timeout_seconds=300',
    ]
)
os.environ['TFDS_DATA_DIR'] = str(ROOT / '.cache' / 'tensorflow_datasets')
# Children of the tests share the compilations too.
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(ROOT / '.cache' / 'jax')
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
os.environ['PYTHONPATH'] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
)

import jax  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.shapes import check_what_is_imported  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')

# Timing decides no test.
settings.register_profile('timeless', deadline=None)
settings.load_profile('timeless')

# Before anything imports the package.
check_what_is_imported()
