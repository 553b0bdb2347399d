"""What the tools under ``tools/analysis/`` compute and draw."""
