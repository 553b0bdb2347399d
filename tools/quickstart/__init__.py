"""The demonstration behind ``tools/quickstart.sh``: a teacher, and one student trained three ways.

It is a grid of four entries that ``tools.experiments.runner`` runs. ``plan`` makes the grid, ``console`` shows how it
goes on, ``report`` draws, and ``driver`` puts them together: data, grid, table, pictures.
"""
