"""Run the ``ltkit`` command as ``python -m ltkit``."""

from ltkit.cli import main

if __name__ == "__main__":
    main()
