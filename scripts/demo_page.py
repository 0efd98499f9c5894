"""A static page that runs an ONNX bundle in the browser, at any of its widths.

    python scripts/demo_page.py --bundle=bundle --output=page
    python -m http.server --directory=page

It classifies what is drawn, an image or the camera's, and asks no server but the one it
came from, which sees nothing of that. onnxruntime-web comes from the npm registry, in
one version whose hash is known, and is kept in ~/.cache/slimjax/npm.
"""

import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.deploy.demo_page import write_demo_page


def main() -> None:
    """Writes the page."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--bundle', required=True, type=pathlib.Path, help='of scripts/export.py')
    add('--output', required=True, type=pathlib.Path, help='folder, new')
    add('--title', default='', help='of the page (the name of the bundle)')
    add('--onnxruntime_web', type=pathlib.Path, help="npm's package of it, if at hand")
    flags = parser.parse_args()
    with readable_mistakes():
        write_demo_page(
            flags.bundle,
            flags.output,
            title=flags.title,
            onnxruntime=flags.onnxruntime_web,
        )
    size = sum(path.stat().st_size for path in flags.output.iterdir())
    print(f'{flags.output}: {size / 1e6:.1f} MB')
    print(f'python -m http.server --directory={flags.output}')


if __name__ == '__main__':
    main()
