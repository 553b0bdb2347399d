"""Grids of trainings: methods x teachers x seeds over our own configs, and what they show.

`grid` says what is to be trained, `data` gets a data set into the shape that the configs expect,
`runner` trains what is missing with `tools/train.py` and evaluates with `tools/test.py`, `results`
reads and writes the lines of `results.jsonl`, `statistics` compares them, and `report` writes
tables and plots.
"""
