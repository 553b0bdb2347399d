"""What `tools/benchmark.py` measures: every comparison within one process, the cases taking turns."""
