"""Where each method stands in the tree of the survey of Zhang et al., 2021, arXiv:2110.04596.

A leaf is named as the command line names it, from its package's word on: ``train ldam``, ``posthoc
lws``, ``--mix cmo``. What is an option or another command alone has its own line in `COMMANDS`.
"""

TREE = {
    "Baseline": {"": ["train ce"]},
    "Class re-balancing": {
        "Re-sampling": ["--sampler"],
        "Re-weighting": [
            "train weighted", "train class-balanced", "train focal", "train cfl", "train ghm-cwap",
            "train cdb", "train ib", "train seesaw", "train seql", "train swrm", "train dyswrm",
        ],
        "Re-margining": ["train ldam", "train elm", "train gcl"],
        "Logit adjustment": [
            "train balanced-softmax", "train logit-adjusted", "train vs", "train cdt", "train lade",
            "posthoc logit-adjust", "posthoc pc-softmax", "posthoc lade", "posthoc group-bias",
            "posthoc bias",
        ],
    },
    "Information augmentation": {
        "Transfer from frequent to rare classes": ["alphanet", "posthoc alphanet-plus"],
        "Pre-training": ["train ssp", "train moco", "train simsiam", "train byol",
                         "train instance-contrast", "posthoc gla"],
        "Knowledge distillation": ["train distill", "train ssd"],
        "Self-training": ["--unlabelled"],
        "Data augmentation": [
            "--augment", "--mix mixup", "--mix cutmix", "--mix remix", "--mix cmo",
        ],
    },
    "Module improvement": {
        "Representation learning": [
            "train lifted", "train range", "train oltr", "train supcon", "train kcl", "train tsc",
            "train paco", "train gpaco", "train lpa",
        ],
        "Classifier design": ["train tde", "posthoc tde", "posthoc tau-norm", "posthoc ncm"],
        "Decoupled training": [
            "train label-aware-smoothing", "train learned-scales", "train mislas", "posthoc crt",
            "posthoc lws", "posthoc marc", "posthoc weight-balancing", "posthoc ridge",
            "posthoc logistic", "posthoc blend", "posthoc temperature", "posthoc vector-scaling",
        ],
        "Ensemble learning": [
            "train bbn", "train ride", "train router", "train ride-distilled", "train sade",
            "train expert-weights", "ensemble",
        ],
    },
}  # fmt: skip

COMMANDS = {
    "--sampler": "`ltkit train LOSS --sampler class-balanced|square-root|progressive|reversed|"
    "undersample`, of a second stage `--then-sampler`; deferred: `--from-epoch N`.",
    "alphanet": "`ltkit alphanet fit FEATS`: combinations of frequent classes' rows (Chang et al., "
    "arXiv:2008.07073).",
    "--unlabelled": "`ltkit train LOSS --unlabelled FOLDER --teacher CKPT`: images that take their "
    "labels from a teacher.",
    "--augment": "`ltkit train LOSS --augment standard|rotation|cutout|autoaugment|"
    "autoaugment+cutout|simclr`.",
    "ensemble": "`ltkit ensemble A.h5 B.h5 -o AB.h5`: networks trained apart, by the mean of their "
    "logits.",
}
