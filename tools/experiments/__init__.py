"""Grids of trainings: methods x teachers x seeds over our own configs, and what they show.

- ``grid``: what is to be trained; ``blood_cells``: entries that several grids share.
- ``data``: gets a data set into the shape that the configs expect.
- ``runner``, ``entry_run``, ``commands``, ``process``, ``state``: train what is missing with ``tools/train.py`` and
  evaluate with ``tools/test.py``. The quickstart is such a grid, too.
- ``reporter``, ``console``, ``progress``: what is shown meanwhile.
- ``results``: the lines of a results file; ``intervals`` compares them; ``groups``, ``tables``, ``plots`` and ``pages``
  show them.
"""
