#!/usr/bin/env bash
# Two backbones on CIFAR-100-LT, cross-entropy and LDAM-DRW, and what AlphaNet wins on the last layer of each.
# Usage: examples/cifar100_lt_chain.sh DATA [EPOCHS [SPEC ARCH]]
# DATA holds cifar-100-binary/ or cifar-100-python/; 200 epochs are the reference schedule, minutes on a GPU.
set -euo pipefail
export LTKIT_DATA=$1
epochs=${2:-200} data=${3:-cifar100_lt:ir=100} arch=${4:-resnet32}
deferred=$((epochs * 4 / 5)) # class weights from here on: 160 of 200

ltkit train ce --data "$data" --arch "$arch" --epochs "$epochs" -o ce.pt
ltkit train ldam --drw "$deferred" --data "$data" --arch "$arch" --epochs "$epochs" -o ldam-drw.pt
ltkit extract ce.pt --data "$data" -o ce.h5
ltkit extract ldam-drw.pt --data "$data" -o ldam-drw.h5
ltkit alphanet fit ce.h5 --k 5 --rho 0.5,1,1.5 --seeds 5
ltkit alphanet fit ldam-drw.h5 --k 5 --rho 0.5,1,1.5 --seeds 5
ltkit compare ce.h5 --against baseline
ltkit compare ldam-drw.h5 --against baseline
