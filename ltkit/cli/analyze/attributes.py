"""``ltkit analyze attributes``."""

from typing import Annotated, Any

import typer

from ltkit.cli import _options, _output, _paths, _tables
from ltkit.cli.analyze._reading import Csv
from ltkit.cli.analyze._results import give, percent, table_of, title
from ltkit.errors import InputError

SHOWN = 30
"""Most classes in the table, the rarest first."""

Image = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="List images that share this one's most characteristic attribute: its id in the file, "
        "or its row.",
        show_default=False,
    ),
]
Class = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="The same for a class, by name or number, among the images of others.",
        show_default=False,
    ),
]
By = Annotated[
    str,
    typer.Option(
        help="Order of these images: share of the attribute, or cosine of all shares, of those "
        "whose most characteristic attribute it is, too."
    ),
]


def attributes(
    feats: _options.Feats = None,
    image: Image = None,
    of_class: Class = None,
    by: By = "share",
    count: Annotated[int, _options.setting("k", "Most images listed.", called="--count")] = 8,
    top: Annotated[int, _options.setting("k", "Attributes of a class.", called="--top")] = 3,
    split: _options.Split = "train",
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Show local pseudo-attributes: which a class has, how balanced they are, which images share.

    Features have them if extracted with --local: each image's shares in prototypes of the vectors
    of its feature map. A class's attributes are those whose share is most above the mean over
    classes. Balance is told by Gini (0: all the same) and evenness (entropy over its maximum), of
    classes by images and of attributes by positions.

    \b
    --json prints shares in 0..1:
      classes    class, name, images, train_count, attributes (attribute, share, above_mean)
      balance    of classes and of attributes: count, gini, evenness, shares (largest first)
    and for --image or --class:
      attribute, share, mean, query and images (row, id, class, name, train_count, share, cosine)

    Example: ltkit analyze attributes feats.h5 --class otter
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.evaluation.analysis import analyze_attributes, nearest_images
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output

    if image is not None and of_class is not None:
        raise InputError("--image: found --class, too; expected one of them")
    order: Any = _options.one_of(by, ("share", "cosine"), "--by")
    path = _paths.features_path(feats, quiet)
    if csv is not None:
        check_output(csv, overwrite=overwrite, inputs=(path,))
    features = features_file.read(path)
    if image is None and of_class is None:
        document = analyze_attributes(features, split=split, top=top)
        return give(document, _show, _table, csv, json, quiet)
    document = nearest_images(
        features, split=split, image=image, of_class=of_class, by=order, count=count
    )
    give(document, _show_images, _table_of_images, csv, json, quiet)


def _table(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [c["class"], c["name"], c["train_count"], place, a["attribute"], a["share"],
         a["above_mean"]]
        for c in document["classes"]
        for place, a in enumerate(c["attributes"], start=1)
    ]  # fmt: skip
    heading = ["class", "name", "train_count", "place", "attribute", "share", "above_mean"]
    return heading, rows


def _show(document: dict[str, Any]) -> None:
    table = table_of("balance", "count", "largest share", "Gini", "evenness")
    for name, found in document["balance"].items():
        even = "–" if found["evenness"] is None else f"{found['evenness']:.3f}"
        table.add_row(
            name, str(found["count"]), percent(found["shares"][0]), f"{found['gini']:.3f}", even
        )
    _output.print_table(table, f"{title(document)}: {document['n']} images; shares in %")
    most = max(len(c["attributes"]) for c in document["classes"])
    table = table_of("class (training images)", *(f"attribute {i + 1}" for i in range(most)))
    rarest = sorted(document["classes"], key=lambda c: (c["train_count"], c["class"]))
    for c in rarest[:SHOWN]:
        cells = (
            f"{a['attribute']}: {percent(a['share'])} ({percent(a['above_mean'], None, '+')})"
            for a in c["attributes"]
        )
        table.add_row(_tables.safe(f"{c['name']} ({c['train_count']})"), *cells)
    _output.print_table(table, "number: share in %, and points above the mean over classes")
    if len(rarest) > SHOWN:
        typer.echo(f"the {SHOWN} rarest of {len(rarest)} classes; the others: --csv or --json")


def _table_of_images(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    heading = ["row", "id", "class", "name", "train_count", "share", "cosine"]
    return heading, [[found[name] for name in heading] for found in document["images"]]


def _show_images(document: dict[str, Any]) -> None:
    query = document["query"]
    of = f"{_called(query)}, {query['name']}" if document["of"] == "image" else query["name"]
    about = f"attribute {document['attribute']}: {percent(document['share'])} %"
    heads = "class", "training images", "share, %", "cosine"
    table = table_of(_tables.safe(f"{of} ({query['train_count']})") + f"\n{about}", *heads)
    for found in document["images"]:
        table.add_row(
            _tables.safe(_called(found)), _tables.safe(found["name"]), str(found["train_count"]),
            percent(found["share"]), f"{found['cosine']:.2f}",
        )  # fmt: skip
    mean = f"{percent(document['mean'])} % on the mean over classes"
    _output.print_table(table, f"{title(document)}: nearest images by {document['by']}; {mean}")


def _called(found: dict[str, Any]) -> str:
    """Return what an image is called: its id, which for files is their path, or its row."""
    return f"row {found['row']}" if found["id"] is None else str(found["id"])
