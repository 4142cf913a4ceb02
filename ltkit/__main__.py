"""``python -m ltkit`` is the ``ltkit`` command."""

from ltkit.cli import main

if __name__ == "__main__":
    main()
