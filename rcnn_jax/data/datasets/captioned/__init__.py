"""Pictures with captions, in the established file formats."""
