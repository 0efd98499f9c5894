"""Takes one width out of a run, as a plain narrow network; or all widths together.

    python scripts/extract.py --workdir=runs/digits --width=0.25 --output=narrow

The output is a folder in the layout of the Hugging Face Hub: config.json,
model.safetensors and a model card with the run's scores. In Python,
`model, variables = slimjax.from_pretrained('narrow')`. Without --width the folder holds
all widths, any one of which is read alone with `from_pretrained(folder, width=0.25)`.
--torch adds model.pt, the same weights as the published PyTorch code names them.
The data of the run need not be there.
"""

import argparse
import json
import pathlib

from slimjax.command_line import command_parser, readable_mistakes
from slimjax.deploy.extract import extract
from slimjax.deploy.pretrained import save_pretrained
from slimjax.train.trained import open_network
from slimjax.width import ChannelTable, widest


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add('--workdir', required=True, type=pathlib.Path, help='of a run, or imported')
    add('--output', required=True, type=pathlib.Path, help='folder, new')
    add('--width', help='such as 0.25, or the name of a channel table (all widths)')
    add('--torch', action='store_true', help='add model.pt, a PyTorch state dict')
    return parser.parse_args()


def main() -> None:
    """Reads the best checkpoint, and writes the folder."""
    flags = parse()
    with readable_mistakes():
        network = open_network(flags.workdir)
        model, variables = network.model, network.variables
        if flags.width is not None:
            width = flags.width
            if not isinstance(widest(model.widths), ChannelTable):
                width = float(width)
            model, variables = extract(
                model, variables, width, image_shape=network.image_shape
            )
        results = flags.workdir / 'results.json'
        save_pretrained(
            flags.output,
            model,
            variables,
            image_shape=network.image_shape,
            preprocessing=network.preprocessing,
            class_names=network.class_names,
            results=json.loads(results.read_text()) if results.exists() else None,
            torch=flags.torch,
        )
    size = sum(path.stat().st_size for path in flags.output.iterdir())
    print(f'{flags.output}: {size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
