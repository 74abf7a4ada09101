#!/usr/bin/env bash
# Serve a classifier over HTTP and send it texts with curl and Python: bash examples/serving.sh [PORT]      needs pennyweight[serve]
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
DATA=$HERE/data
PORT=${1:-8000}
export PENNYWEIGHT_URL=http://127.0.0.1:$PORT

pennyweight train "$DATA/tickets.csv" --test "$DATA/tickets-test.csv" --validation-size 0 \
    --budget 50k --epochs 6 --out runs/served/tickets --overwrite

# Server and client read the token from the environment; the server refuses requests without it.
PENNYWEIGHT_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export PENNYWEIGHT_TOKEN
pennyweight serve runs/served --port "$PORT" &
SERVER=$!
trap 'kill $SERVER && wait $SERVER' EXIT
until curl --silent --fail --output /dev/null "$PENNYWEIGHT_URL/readyz"; do
    kill -0 $SERVER # ends the script if the server did not start
    sleep 0.2
done

curl --silent --show-error --fail-with-body "$PENNYWEIGHT_URL/v1/classifiers/tickets/predict" \
    --header "Authorization: Bearer $PENNYWEIGHT_TOKEN" --header "Content-Type: application/json" \
    --data '{"texts": ["Where is my parcel?", "I was charged twice."]}'
echo
python3 "$HERE/serving_client.py"
