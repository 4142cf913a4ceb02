"""A report from features and corrections in one call: the material, the sections, the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltkit.evaluation import Entry, grouping_of, networks
from ltkit.files.atomic import write_text
from ltkit.records import FeatureSet, progress
from ltkit.reporting import drawing, page, pictures, sections, source
from ltkit.reporting.advice import Advice, stored
from ltkit.reporting.exhibits import Section
from ltkit.settings import REPLICATES, NeighborSettings, PathRule


@dataclass(frozen=True, eq=False)
class Report:
    """A page as text, and what it was made of.

    compared: the document of the comparison; None without corrections.
    """

    text: str
    parts: Sequence[Section]
    compared: dict[str, Any] | None

    def write(self, output: Path, figures: Path | None = None) -> list[Path]:
        """Write the page, and its figures as files where a folder is given; return these."""
        write_text(output, self.text)
        if figures is None:
            return []
        return drawing.write_figures((e for part in self.parts for e in part.exhibits), figures)


def make(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    *,
    read: Sequence[Path] = (),
    images: Path | None = None,
    group: str = "auto",
    rule: PathRule = "path",
    level: int = 4,
    bins: Sequence[int] | None = None,
    k: int = NeighborSettings.k,
    replicates: int = REPLICATES,
    seed: int = 0,
    command: str = "",
    advice: Advice | None = None,
    report: progress.Report = progress.silent,
) -> Report:
    """Make the report of a features file and its corrections.

    Args:
        features: with a head.
        split: name of the split.
        entries: corrections, in display order.
        read: the files, whose origins the page tells.
        images: the dataset's folder, for pictures of the classes.
        group: of grouped accuracy, as ``ltkit report --group``.
        rule: WordNet rule.
        level: WordNet level.
        bins: bounds of the medium shot group; None: the file's own.
        k: neighbours per class.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap and of the map.
        command: the command that makes this page again.
        advice: what was recommended; None: the choice that one of the files read holds, if any.
        report: called before the first section, and after each.

    Raises:
        InputError: as `ltkit.evaluation.evaluate`, or for pictures that cannot be shown.
    """
    album = pictures.Pictures(features, images) if images else None
    pictured = pictures.thumbnails(features, album) if album else {}
    files = source.provenance(read)
    if advice is None:
        advice = stored(files, entries, features)
    if advice is not None and advice.keep:  # its correction is the model's own head
        entries = [entry for place, entry in enumerate(entries) if place != advice.entry]
    report("section", 0, len(sections.in_order()))
    with networks.remembered():
        made = source.collect(
            features, split, entries, bins=bins,
            grouping=grouping_of(features, group, rule=rule, level=level),
            rule=rule, level=level, k=k, replicates=replicates, seed=seed, advice=advice,
            pictures=album,
        )  # fmt: skip
        parts = sections.make(made, report)
    text = page.render(made, parts, provenance=files, command=command, thumbnails=pictured)
    return Report(text, parts, made.compared)
