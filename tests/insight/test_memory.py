"""Bytes, of programs and for people."""

import jax
import jax.numpy as jnp
import pytest

from slimjax.insight.memory import format_bytes, temporary_bytes


def test_temporaries_are_those_of_the_compiled_program():
    def program(x):
        return jnp.sort(x * x)[::2].sum()

    compiled = jax.jit(program).lower(jnp.ones(2**16)).compile()
    assert 2**18 <= temporary_bytes(compiled) <= 2**20


def test_a_backend_that_tells_nothing_gives_none():
    class Compiled:
        def memory_analysis(self):
            return None

    assert temporary_bytes(Compiled()) is None


@pytest.mark.parametrize(
    ('count', 'text'),
    [
        (0, '0 B'),
        (1023, '1023 B'),
        (1024, '1.0 KiB'),
        (2**20 - 1, '1.0 MiB'),
        (377 * 2**20, '377.0 MiB'),
        (2**41, '2.0 TiB'),
        (2**51, '2048.0 TiB'),
    ],
)
def test_bytes_are_readable(count, text):
    assert format_bytes(count) == text
