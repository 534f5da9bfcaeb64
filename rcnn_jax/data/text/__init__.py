"""Words and characters: vocabularies, tokenizers and their coverage."""
