"""What the command lines share: options, and errors in one sentence."""
