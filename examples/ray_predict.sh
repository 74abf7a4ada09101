#!/usr/bin/env bash
# Predict a folder of files with two processes that Ray starts: bash examples/ray_predict.sh       needs pennyweight[ray]
#
# On a cluster, use `--ray auto` instead of `--ray local`, and folders that all machines can see (docs/scale.md).
set -euo pipefail
DATA=$(cd "$(dirname "$0")" && pwd)/data

pennyweight train "$DATA/tickets.csv" --test "$DATA/tickets-test.csv" --validation-size 0 \
    --budget 50k --epochs 6 --out runs/ray --overwrite

mkdir -p inbox
for part in 1 2 3; do cp "$DATA/tickets-test.csv" "inbox/part-$part.csv"; done

# Each file is a unit of work. After a kill, the same command with --resume computes what is missing.
pennyweight predict runs/ray inbox --ray local --workers 2 --precision fp32 --format jsonl --out labelled
cat labelled/manifest.json
