"""The parts of `tools/gpu_report.py`, each run in a process of its own."""
