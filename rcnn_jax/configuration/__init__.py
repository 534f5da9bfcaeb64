"""Configuration: from a config file, the command line and defaults to one checked config."""
