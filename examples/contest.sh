#!/usr/bin/env bash
# From two CSV files to a submission, with fewer than a million trained parameters: bash examples/contest.sh
#
# For your own contest, change the four lines below. BACKBONE=roberta-base is downloaded once.
set -euo pipefail
DATA=$(dirname "$0")/data
TRAIN=$DATA/tickets.csv TEST=$DATA/tickets-test.csv # of TEST only ids and texts are read
BACKBONE=embedded
ORDER=billing,delivery,account,returns # the contest's numbers: 0 is billing

# Count what will be trained before loading any weights, and check the data before training.
pennyweight plan --backbone $BACKBONE --labels 4 --budget 1M
pennyweight audit "$TRAIN" --test "$TEST"

# With so few texts, train would first compare several ways (few_shot.py); --epochs trains as with thousands of texts.
pennyweight train "$TRAIN" --backbone $BACKBONE --budget 1M --epochs 6 \
    --validation-size 0.25 --label-names $ORDER --out runs/contest --overwrite

pennyweight predict runs/contest "$TEST" --submission --label-order $ORDER --out submission.csv
pennyweight leaderboard submission.csv "$TEST" --labels 4
