"""Measures what one program for all candidates saves a search, on the digits network.

    python scripts/benchmark_search.py --json=results/search_cpu.json

scores 400 candidates on 256 images, and beside them cuts out and compiles 12 of them,
each by itself. Prints and writes seconds, memory and the number of compilations.
"""

import json
import pathlib
import sys

import jax

from slimjax.allocator import keep_freed_memory
from slimjax.benchmark.search import benchmark_search
from slimjax.command_line import command_parser, given_command
from slimjax.commands import write_json


def main() -> None:
    """Measures, prints and writes."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--images', type=int, default=256, help='of a candidate (%(default)s)')
    add('--candidates', type=int, default=400, help='scored (%(default)s)')
    add('--compiled', type=int, default=12, help='of them compiled (%(default)s)')
    add('--json', type=pathlib.Path, help='write the figures to this file')
    flags = parser.parse_args()
    if not 1 <= flags.compiled < flags.candidates or flags.images < 1:
        parser.error('--candidates are more than --compiled, and all are 1 or more')
    # What is timed includes compiling.
    jax.config.update('jax_enable_compilation_cache', False)
    keep_freed_memory()
    results = benchmark_search(
        flags.images,
        flags.candidates,
        flags.compiled,
        lambda line: print(line, file=sys.stderr),
    )
    print(json.dumps(results, indent=2))
    if flags.json:
        write_json(flags.json, {'command': given_command(), **results})


if __name__ == '__main__':
    main()
