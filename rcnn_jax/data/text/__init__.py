"""Words and characters: vocabularies, tokenizers, coverage."""
