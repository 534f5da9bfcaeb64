"""Images of one label each."""
