"""From a config file, the command line and defaults to one complete, checked config."""
