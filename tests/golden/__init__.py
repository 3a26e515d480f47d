"""Golden files: the texts and documents that people and programs read from this package.

`tests/golden/expected/` holds one folder for each kind. A test fails with a unified diff when an
output differs from its file, when an output has no file, and when a file has no output.

To change an output on purpose, change the code, write the files again and commit both together, so
that the commit shows the difference:

    .venv/bin/python -m pytest tests/golden --update-golden
"""
