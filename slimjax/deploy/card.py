"""The model card that a folder of weights has on the Hugging Face Hub."""

from collections.abc import Mapping
from typing import Any

from slimjax.insight.table import format_count, markdown

_COLUMNS = {
    'params': ('parameters', format_count),
    'macs': ('MACs', format_count),
    'top1': ('top-1 %', lambda value: f'{100 * value:.2f}'),
    'top5': ('top-5 %', lambda value: f'{100 * value:.2f}'),
}


def model_card(config: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Returns a card in Markdown.

    Args:
        config: what `config.json` holds.
        results: `{'widths': {'0.25': {'params', 'macs', 'top1', 'top5'}}}`, of which
            any may be missing, and where known the `split` that was scored.

    Example:
        >>> config = {'model': 'resnet14', 'image_shape': [32, 32, 3]}
        >>> results = {'split': 'test', 'widths': {'0.5': {'macs': 5e6, 'top1': 0.5}}}
        >>> print(*model_card(config, results).splitlines()[14:19], sep='\\n')
        | width |  MACs | top-1 % |
        | ----- | ----: | ------: |
        | 0.5   | 5.0 M |   50.00 |
        <BLANKLINE>
        Accuracy is of the test split.
    """
    widths = results['widths']
    columns = [
        column
        for column in _COLUMNS
        if any(values.get(column) is not None for values in widths.values())
    ]
    rows = [
        [name, *(_cell(values.get(column), column) for column in columns)]
        for name, values in widths.items()
    ]
    table = [['width', *(_COLUMNS[column][0] for column in columns)], *rows]
    height, width, channels = config['image_shape']
    first = next(iter(widths))
    asked = first if first.replace('.', '').isdigit() and '.' in first else repr(first)
    if len(rows) == 1:
        what = f'A network of its own, width {first} of a slimmable one'
    else:
        what = f'One set of weights that runs at {len(rows)} widths, chosen at run time'
    text = f"""\
---
library_name: slimjax
pipeline_tag: image-classification
tags:
- slimmable
- jax
- flax
---

# {config['model']}, slimmable

{what}
([Yu et al., ICLR 2019](https://arxiv.org/abs/1812.08928)).

{markdown(table)}"""
    if 'top1' in columns and results.get('split'):
        text += f'\n\nAccuracy is of the {results["split"]} split.'
    text += f"""

```python
import slimjax

model, variables = slimjax.from_pretrained('PATH/TO/THIS/FOLDER', width={asked})
logits = model.apply(variables, images, train=False)
```

`images` are float32 `[batch, {height}, {width}, {channels}]`, {_prepared(config)}.
"""
    if len(rows) > 1:
        text += 'Without `width=`, it is the network with all widths.\n'
    return text


def _cell(value: float | None, column: str) -> str:
    return '-' if value is None else _COLUMNS[column][1](value)


def _prepared(config: Mapping[str, Any]) -> str:
    known = config.get('preprocessing')
    if not known:
        return 'normalised as in training'
    return (
        f'pixels in 0..1 less {tuple(known["mean"])}, divided by {tuple(known["std"])}'
    )
