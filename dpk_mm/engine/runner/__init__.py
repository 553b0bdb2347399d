"""From a config to a Runner: what stands between a command line and mmengine."""
