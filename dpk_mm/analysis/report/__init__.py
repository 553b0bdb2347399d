"""The report page of a training: one HTML file that needs no network.

``hook`` collects what only the running training knows (``collect``, ``examples``) and leaves it in the work folder as
``report.json``; ``runs`` reads such folders, ``charts`` draws, and ``page`` writes the file.
"""

from .hook import ReportHook
from .page import write_page
from .runs import PAGE_FILE, RECORD_FILE, Run, load_run

__all__ = ['PAGE_FILE', 'RECORD_FILE', 'ReportHook', 'Run', 'load_run', 'write_page']
