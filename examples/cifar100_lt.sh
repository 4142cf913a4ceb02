#!/usr/bin/env bash
# From images to a corrected checkpoint on CIFAR-100-LT: about an hour on two cores, minutes on a GPU.
# Usage: examples/cifar100_lt.sh DATA     (DATA holds cifar-100-binary/ or cifar-100-python/)
set -euo pipefail
export LTKIT_DATA=$1

ltkit train ce --data cifar100_lt --amp bf16 -o ce.pt
ltkit extract ce.pt --data cifar100_lt -o ce.h5
ltkit alphanet fit ce.h5 --k 5 --rho 0.5,1,1.5 --seeds 10
ltkit posthoc logit-adjust ce.h5
ltkit posthoc tau-norm ce.h5
ltkit evaluate ce.h5 --group wordnet --per-class ce.csv
ltkit export ce.logit-adjust.h5 --into ce.pt -o fixed.pt
