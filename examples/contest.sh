#!/usr/bin/env bash
# From two CSV files to a submission, with fewer than a million trained parameters: bash examples/contest.sh
#
# For a contest of your own change the four lines below. BACKBONE=roberta-base is downloaded once.
set -euo pipefail
DATA=$(dirname "$0")/data
TRAIN=$DATA/tickets.csv TEST=$DATA/tickets-test.csv # of TEST only ids and texts are read
BACKBONE=embedded
ORDER=billing,delivery,account,returns # the contest's numbers: 0 is billing

# What will be trained is counted before any weights are loaded, and the data are checked before anything is trained.
pennyweight plan --backbone $BACKBONE --labels 4 --budget 1M
pennyweight audit "$TRAIN" --test "$TEST"

# So few texts would be tried in several ways first (few_shot.py); with --epochs they are trained on like thousands.
pennyweight train "$TRAIN" --backbone $BACKBONE --budget 1M --epochs 6 \
    --validation-size 0.25 --label-names $ORDER --out runs/contest --overwrite

pennyweight predict runs/contest "$TEST" --submission --label-order $ORDER --out submission.csv
pennyweight leaderboard submission.csv "$TEST" --labels 4
