"""The Python face in a script that passes ``mypy --strict``: `make check` asks."""

import sys

import ltkit


def main(path: str) -> None:
    """Correct a features file in two ways, and print what each is worth."""
    features = ltkit.read(path)
    blended = ltkit.posthoc.blend(features)
    learned = ltkit.alphanet.fit_features(features, k=3)
    table = ltkit.evaluate(features, blended, ("AlphaNet", learned))
    print(table["accuracy"], blended.runs, ltkit.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
