"""One file format each; no data set is known here."""
