"""Which of several trained teachers is the best for a student: ``tools/select_teacher.py``.

- ``candidates``: the teachers of the command line, and the config of each pair.
- ``schedule``: a training cut to a part of its length.
- ``passes``: what one look at some hundred images says of each teacher.
- ``race``: short trainings of the best, with successive halving.
- ``verdict``: which one, or that they cannot be told apart.
- ``pages``: table and picture.
- ``selection``: all of it in order; what an earlier run did is not done again.
"""
