"""What a wrong input gets: one row a case.

A row is a command line (without ``ltkit``), words that its one-line message must have, how the
input is made beside ``feats.h5`` and ``m.pt``, and the exit code. With code 0 the case works, and
the words are in what is printed.
"""

from bad_inputs.of_abstention import ABSTENTION, NOVELTY
from bad_inputs.of_adaptation import ADAPTATION
from bad_inputs.of_advice import ADVICE
from bad_inputs.of_arguments import ARGUMENTS_AND_STREAMS
from bad_inputs.of_arrays import ARRAYS_AND_LISTS, IMPORT
from bad_inputs.of_checkpoints import CHECKPOINTS, TORCH_FILES
from bad_inputs.of_composition import COMPOSITION
from bad_inputs.of_experts import EXPERTS
from bad_inputs.of_files import ANY_FILE, NAMES, OUTPUTS
from bad_inputs.of_images import DATA, FOLDERS
from bad_inputs.of_methods import EVALUATE, EXPORT, NEIGHBORS_AND_ALPHANET, POSTHOC, TRAIN
from bad_inputs.of_networks import NETWORKS
from bad_inputs.of_numbers import RECORDS_AND_NUMBERS
from bad_inputs.of_production import PRODUCTION
from bad_inputs.of_scratch import SCRATCH
from bad_inputs.of_shipping import SHIPPING
from bad_inputs.of_starts import STARTS
from bad_inputs.of_studies import STUDIES

ROWS = (
    *ANY_FILE, *OUTPUTS, *NAMES, *DATA, *CHECKPOINTS, *IMPORT, *NEIGHBORS_AND_ALPHANET, *POSTHOC,
    *EVALUATE, *TRAIN, *EXPORT, *ARGUMENTS_AND_STREAMS, *RECORDS_AND_NUMBERS, *FOLDERS,
    *TORCH_FILES, *ARRAYS_AND_LISTS, *SCRATCH, *ADVICE, *SHIPPING, *COMPOSITION, *STARTS, *EXPERTS,
    *NETWORKS, *STUDIES, *PRODUCTION, *ABSTENTION, *NOVELTY, *ADAPTATION,
)  # fmt: skip
