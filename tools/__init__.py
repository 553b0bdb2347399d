"""Command lines of the repository, and the code of those that are not part of the installed package.

Scripts that need that code put the repository's root on ``sys.path`` and import it as ``tools.<name>``. Modules beside
a script are found under their bare name, too, so none of them may be called like another top-level module.
"""
