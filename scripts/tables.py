"""Makes the tables of README.md and docs/ anew from the files in results/.

    python scripts/tables.py

Which file a table is of stands in the comment before it; the file says by which
command, on which machine and at which commit its figures were measured.
"""

import pathlib

from slimjax.benchmark.tables import filled
from slimjax.command_line import command_parser, readable_mistakes

ROOT = pathlib.Path(__file__).parents[1]


def main() -> None:
    """Fills every file, and says which changed."""
    command_parser(__doc__).parse_args()
    with readable_mistakes():
        for path in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))):
            before = path.read_text()
            after = filled(before, ROOT)
            if after != before:
                path.write_text(after)
                print(path.relative_to(ROOT))


if __name__ == '__main__':
    main()
