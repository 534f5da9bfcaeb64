"""Output of commands: tables, files, progress bars and figures."""
