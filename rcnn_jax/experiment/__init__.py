"""From a config to the things it names, and to a run that trains or evaluates them."""
