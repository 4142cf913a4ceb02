"""Predictions and scores in file formats of other tools.

- ``cleanlab``: an npz with ``labels`` (N,), ``pred_probs`` (N, C) float32 and ``ids`` (N,), as
  cleanlab's ``find_label_issues`` takes them;
- ``fiftyone``: samples as JSON, each with ``filepath`` (the image's id), ``tags`` (the split),
  ``ground_truth`` and ``prediction`` (label, confidence), as ``fiftyone.Sample`` takes them;
- ``parquet``: a table with a row a sample: id, label, predicted, their names, confidence, rank of
  the true class, shot group;
- ``latex``: a table of the accuracies, mean and standard deviation over runs.

Samples are written block by block; no (N, C) array is held.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation import knobs, siblings
from ltkit.files.atomic import replacing
from ltkit.records import Classifier, ClassTable, FeatureSplit, ShotGroups

SAMPLES = ("cleanlab", "fiftyone", "parquet")
FORMS = (*SAMPLES, "latex")

Block = tuple[slice, NDArray[np.float32]]


def write_samples(
    form: str,
    output: Path,
    classifier: Classifier,
    split: FeatureSplit,
    name: str,
    classes: ClassTable,
    groups: ShotGroups,
) -> None:
    """Write a classifier's predictions for every sample of a split.

    Args:
        form: one of `SAMPLES`.
        output: the new file.
        classifier: in its linear form.
        split: (N, D) features and labels.
        name: name of the split.
        classes: class names, or class numbers if there are none.
        groups: shot groups, for the table.

    Raises:
        InputError: when the form is ``parquet`` and pyarrow is not installed.
    """
    table = _Table(classifier, split, name, classes, groups)
    with replacing(output) as temporary:
        getattr(table, form)(temporary)


class _Table:
    """One classifier's predictions on one split, block by block."""

    def __init__(
        self,
        classifier: Classifier,
        split: FeatureSplit,
        name: str,
        classes: ClassTable,
        groups: ShotGroups,
    ) -> None:
        self._classifier, self._split, self._name = classifier, split, name
        count = classifier.num_classes
        self._names = np.array(classes.names or [str(c) for c in range(count)])
        self._groups = np.empty(count, dtype="<U6")
        for group, ids in groups.items():
            self._groups[ids] = group
        self._ids = np.arange(len(split)).astype(str) if split.ids is None else split.ids

    def _blocks(self) -> Iterator[Block]:
        """Yield rows and their (B, C) softmax."""
        for rows, features, _ in self._split.blocks(self._classifier.num_classes):
            logits = self._classifier.logits(features)
            logits -= logits.max(axis=1, keepdims=True)
            np.exp(logits, out=logits)
            logits /= logits.sum(axis=1, keepdims=True)
            yield rows, logits.astype(np.float32, copy=False)

    def cleanlab(self, output: Path) -> None:
        """Write an npz file."""
        shape = (len(self._split), self._classifier.num_classes)
        with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for key, values in (("labels", self._split.labels), ("ids", self._ids)):
                content = io.BytesIO()
                np.save(content, values, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy"), content.getvalue())
            with archive.open("pred_probs.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                for _, probabilities in self._blocks():
                    member.write(np.ascontiguousarray(probabilities, "<f4").tobytes())

    def fiftyone(self, output: Path) -> None:
        """Write samples as JSON."""
        with output.open("w", encoding="utf-8") as file:
            file.write('{"samples": [')
            for rows, probabilities in self._blocks():
                predicted = probabilities.argmax(axis=1)
                labels = self._split.labels[rows]
                for place, (truth, said) in enumerate(zip(labels, predicted, strict=True)):
                    sample = {
                        "filepath": str(self._ids[rows.start + place]),
                        "tags": [self._name],
                        "ground_truth": {"label": str(self._names[truth])},
                        "prediction": {
                            "label": str(self._names[said]),
                            "confidence": round(float(probabilities[place, said]), 6),
                        },
                    }
                    first = rows.start + place == 0
                    file.write(("\n" if first else ",\n") + json.dumps(sample))
            file.write("\n]}\n")

    def parquet(self, output: Path) -> None:
        """Write a table."""
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise InputError(
                f"--to parquet: pyarrow is not installed ({error}); pip install 'ltkit[parquet]'"
            ) from error
        writer = None
        try:
            for rows, probabilities in self._blocks():
                labels, predicted = self._split.labels[rows], probabilities.argmax(axis=1)
                own = np.take_along_axis(probabilities, labels[:, None], axis=1)
                before = probabilities > own
                before |= (probabilities == own) & (
                    np.arange(probabilities.shape[1]) < labels[:, None]
                )
                block = pa.table({
                    "id": self._ids[rows].astype(str).tolist(),
                    "split": [self._name] * len(labels),
                    "label": labels,
                    "predicted": predicted.astype(np.int64),
                    "label_name": self._names[labels].tolist(),
                    "predicted_name": self._names[predicted].tolist(),
                    "confidence": probabilities.max(axis=1),
                    "rank": before.sum(axis=1).astype(np.int64),
                    "shot_group": self._groups[labels].tolist(),
                })  # fmt: skip
                writer = writer or parquet.ParquetWriter(output, block.schema)
                writer.write_table(block)
        finally:
            if writer is not None:
                writer.close()


def latex(document: dict[str, Any]) -> str:
    r"""Return a LaTeX table of the scores from `ltkit.evaluation.evaluate`.

    Accuracies are in %, with standard deviations over several runs; rules are booktabs'.

    Example:
        >>> row = {"name": "a_b", "settings": {"rho": 1.0}, "runs": 2,
        ...        "accuracy": {"few": 0.25, "all": 0.5}, "std": {"few": 0.01, "all": 0.02}}
        >>> print(latex({"rows": [row]}))
        \begin{tabular}{lrr}
        \toprule
         & few & all \\
        \midrule
        a\_b (rho 1) & 25.0 $\pm$ 1.0 & 50.0 $\pm$ 2.0 \\
        \bottomrule
        \end{tabular}
    """
    columns = [n for n in ("few", "medium", "many", "all") if n in document["rows"][0]["accuracy"]]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule",
        rf" & {' & '.join(columns)} \\", r"\midrule",
    ]  # fmt: skip
    for row in document["rows"]:
        told = knobs(row["settings"], siblings(row, document["rows"]))
        setting = ", ".join(f"{knob} {value}" for knob, value in told.items())
        name = _escaped(row["name"] + (f" ({setting})" if setting else ""))
        # Behind a line's end, a bracket or a star would be read as the end's own argument.
        cells = [f"{{}}{name}" if name.startswith(("[", "*")) else name]
        for name in columns:
            value, std = row["accuracy"][name], (row["std"] or {}).get(name)
            text = "--" if value is None else f"{100 * value:.1f}"
            cells.append(text if std is None else rf"{text} $\pm$ {100 * std:.1f}")
        lines.append(rf"{' & '.join(cells)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(c, c) if c.isprintable() else " " for c in text)
