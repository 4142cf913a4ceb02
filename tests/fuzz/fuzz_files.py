"""Damage all other files in every way and read them: same result, or refused, and nothing runs.

    python tests/fuzz/fuzz_files.py --count 10000 --seed 0 [--kind features ...]
        [--json OUT] [--keep FOLDER]

What `fuzz_checkpoints` is for checkpoints, this is for the files that ltkit writes (features,
classifiers, neighbours, what an interrupted extraction, sweep or training leaves), for arrays to
import, lists, CSVs, groups of classes, CIFAR's archives, folders and images.

- ``<kind>``: bytes, as for checkpoints; of ltkit's files also the library's metadata, its checksums
  made right again, and copies in the layout that other programs write.
- ``<kind>-values``: some bits of one dataset. Each mutant must be refused, with the dataset, the
  block and its rows named.
- ``headers``: of arrays to import and of features files what they say of themselves: types, shapes,
  orders, all other numbers being right. Each must give the same result, or be refused.
- ``import-<form>``: what other programs write: arrays and tables in every form that `import` reads,
  probabilities, class embeddings. All of them together have a reader's count.
- ``<kind>-crafted``: what HDF5 can do, and ltkit does not: links, virtual and external data,
  filters, other types and shapes, loops; wrong values. Half have a right digest.

A count is of mutants of each reader: of those of ltkit's own files two fifths are bytes, two fifths
values and one fifth crafted, each kind of the others has all of its reader's.

Outcomes: as for checkpoints (HDF5's and libtiff's own words on stderr do not count), and further
wrong ones: changed (read, with another result than the sound file, where the format has checksums)
and missed (values refused for another reason). Where the HDF5 library crashes or hangs, the outcome
is that of ``ltkit validate``, which has it happen in a child process; "isolated" says how often.
"""

import importlib.util
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import foreign
from array_files import Arrays, Headers
from foreign_files import Foreign
from fuzz_records import Records
from fuzzing import main
from lists_and_pictures import Cifar, Folder, Groups, Lists, Pictures
from own_files import OWN, Crafted, Own, Resumed, Sweep, Training, Values

TARGETS = {
    target.name: target
    for target in (
        *(kind(f"{name}{more}") for name in OWN
          for kind, more in ((Own, ""), (Values, "-values"), (Crafted, "-crafted"))),
        Resumed("extraction"), Sweep("sweep"), Training("training"), Arrays("arrays"),
        Headers("headers"), *(Foreign(f"import-{kind}") for kind in foreign.WORDS),
        Lists("lists"), Groups("groups"), Cifar("cifar-python"), Cifar("cifar-binary"),
        Folder("folder"), Pictures("images"),
        Records("run-records"),
    )
}  # fmt: skip


def available():
    """The names of what can be read here: Parquet needs pyarrow."""
    there = importlib.util.find_spec("pyarrow") is not None
    return [name for name in TARGETS if there or name != "import-parquet"]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(__doc__, "python tests/fuzz/fuzz_files.py", TARGETS, available(), "kind")
