"""`python -m keraship` is the `keraship` command."""

from keraship.cli import main

if __name__ == "__main__":
    main()
