"""Send texts to a running server: `python examples/serving_client.py`, with PENNYWEIGHT_URL and PENNYWEIGHT_TOKEN set.

`serving.sh` starts a server and runs this.
"""

from __future__ import annotations

import os

try:
    import httpx
except ImportError:  # the same client by the name under which newer versions of huggingface_hub bring it
    import httpx2 as httpx

with httpx.Client(
    base_url=os.environ["PENNYWEIGHT_URL"],
    headers={"Authorization": f"Bearer {os.environ['PENNYWEIGHT_TOKEN']}"},
    timeout=15,  # seconds; the server answers or refuses within 10
) as client:
    texts = ["My password does not work.", "The shoes are too small.", "Hm."]
    answer = client.post("/v1/classifiers/tickets/predict", json={"texts": texts, "abstain_below": 0.5})
    answer.raise_for_status()
    for text, prediction in zip(texts, answer.json()["predictions"], strict=True):
        print(f"{text:<28} {prediction['label'] or 'not sure'} ({prediction['probability']:.0%})")

    answer = client.post("/v1/classifiers/tickets/explain", json={"text": texts[0]}).raise_for_status().json()
    words = [f"{word['text']} {word['weight']:+.1f}" for word in answer["words"]]
    print(f"which words speak for {answer['label']}: {', '.join(words)}")
