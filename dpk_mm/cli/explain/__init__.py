"""Explains in one sentence what an error means for the config, with the key that is to be changed.

The registries of mmengine and the constructors that they call do not have the whole config:
``KeyError: 'ResNett is not in the mmdet::model registry ...'`` at the end of a traceback does not name
the place of ResNett. Only errors are examined: a config that works is never checked here.

:mod:`.explanation` finds what an error is about, and the modules beside it make the sentence for one kind
each: :mod:`.unknown_types`, :mod:`.arguments`, :mod:`.data_files` and :mod:`.networks`. They look at the config
(:mod:`.config_keys`), the registries (:mod:`.registered`) and the traceback (:mod:`.traces`).
"""

from .explanation import explain, explained_errors

__all__ = ['explain', 'explained_errors']
