"""Pictures with sentences, in the files of the field."""
