"""The wheel and the sdist: what they contain, and that they can be installed and run."""
