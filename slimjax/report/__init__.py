"""The HTML report of a run: one file that opens from the disk, without a network.

`gather.py` measures, `charts.py` and `pictures.py` draw, `page.py` fills `page.html`.
"""
