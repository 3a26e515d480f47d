"""The command line: verbs that parse and print."""
