"""``ltkit data make-lt``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _options, _output
from ltkit.settings import LongTailSettings

PROFILES = ("exponential", "step", "pareto")

Falls = Annotated[str, typer.Option(help="exponential (or exp), step or pareto.")]


def make_lt(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Folder, list file or CSV.")],
    imbalance: Annotated[
        float, _options.setting("imbalance", "Images of the largest class for one of the smallest.")
    ] = LongTailSettings.imbalance,
    profile: Falls = LongTailSettings.profile,
    val_images: Annotated[
        int,
        _options.setting("val_images", "Of each class, set aside for val where SPEC has no val."),
    ] = LongTailSettings.val_images,
    test_images: Annotated[
        int,
        _options.setting("test_images", "Of each class, set aside for test where SPEC has none."),
    ] = LongTailSettings.test_images,
    seed: _options.Seed = LongTailSettings.seed,
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    columns: _options.Columns = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The training list; the others go beside it.")
    ] = Path("lt_train.txt"),
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write the lists of a long-tailed subset of a balanced dataset; class 0 keeps most images.

    The lists name images relative to the dataset's folder: give it as --root with the training
    list as --data. A val or test split that is there stays whole.

    Example: ltkit data make-lt pets/ --imbalance 50 --test-images 50 -o pets_train.txt
    """
    from ltkit import datasets
    from ltkit.sources import long_tailed

    known = {name: name for name in PROFILES} | {"exp": "exponential"}
    profile = known[_options.one_of(profile, tuple(known), "--profile")]
    settings = LongTailSettings(imbalance, profile, seed, val_images, test_images)  # type: ignore[arg-type]
    called = _options.columns(columns)
    dataset = datasets.load(spec, root, follow_links=follow_links, columns=called)
    _output.say_notes(dataset, quiet)
    written = long_tailed.write_lists(dataset, output, settings, overwrite=overwrite)
    if len(written) < 3:
        _output.say("note: there is no test list; --test-images 50 sets images aside", quiet)
    for path in written:
        _output.wrote(path, quiet)
