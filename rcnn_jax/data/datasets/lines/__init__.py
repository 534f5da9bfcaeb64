"""Lines to transcribe, as pictures or recordings."""
