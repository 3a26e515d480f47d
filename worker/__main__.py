"""Run the command line as `python -m worker`."""

from worker.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
