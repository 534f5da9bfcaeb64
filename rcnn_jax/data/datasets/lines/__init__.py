"""Lines to transcribe: pictures and recordings."""
