"""What a command shows and leaves behind: tables, files, progress, pictures."""
