"""What the command lines share: options, and errors told in one sentence."""
