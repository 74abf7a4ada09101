"""A classifier as OpenVINO's intermediate representation: model.xml, its graph, and model.bin, its weights in fp32."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ..artifact.artifact import Artifact
from ..storage.atomic import atomic_folder, write_text
from ..storage.folders import refuse_nonempty_folder
from .difference import checked_difference, example_texts, our_logits, stock_batch
from .graph import plain_classifier, reads_segments
from .onnx import require, write_companions, write_graph
from .readme import HERE, readme, runtime_code
from .whole_texts import refuse_long_texts

MODEL = "model.xml"


def to_openvino(artifact: Artifact, folder: str | Path) -> float:
    """Write a folder with an OpenVINO model in fp32, of dynamic batch and length, by way of ONNX.

    Returns:
        The largest difference between its logits in OpenVINO, computing in fp32, and ours divided by the temperature.

    Raises:
        InputError: when the folder holds anything.
        ArtifactError: when the difference is above 1e-3 of the largest logit; nothing is written then.
        ResourceError: when openvino, onnx or onnxscript is not installed.
    """
    refuse_nonempty_folder(folder)
    refuse_long_texts(artifact)
    require("openvino", "onnx", "onnxscript", extra="openvino")
    import openvino

    texts = example_texts(artifact)
    ours = our_logits(artifact, texts)
    core = openvino.Core()
    with atomic_folder(folder) as aside:
        plain = plain_classifier(artifact)
        with tempfile.TemporaryDirectory(prefix="pennyweight-") as scratch:
            write_graph(plain, artifact, Path(scratch) / "model.onnx")
            # `Core.read_model` and not `openvino.convert_model`, which reports its use to a server.
            model = core.read_model(Path(scratch) / "model.onnx")
            openvino.save_model(model, aside / MODEL, compress_to_fp16=False)
            del model
        write_companions(artifact, aside)
        # Without the hint a processor with AMX or AVX512-BF16 computes in bf16.
        compiled = core.compile_model(aside / MODEL, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        names = {name for port in compiled.inputs for name in port.names}
        batch = {name: tensor.numpy() for name, tensor in stock_batch(artifact, texts).items() if name in names}
        difference = checked_difference(ours, np.asarray(compiled(batch)["logits"]))
        write_text(aside / "README.md", _readme(artifact, reads_segments(artifact, plain), difference))
    return difference


def _readme(artifact: Artifact, segments: bool, difference: float) -> str:
    loading = runtime_code(
        artifact,
        segments,
        "import openvino\nfrom tokenizers import Tokenizer",
        f"""# Without the hint, processors with bf16 use it, which is faster but precise to only 2 or 3 digits.
model = openvino.Core().compile_model("{HERE}/{MODEL}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})""",
        'model(feed)["logits"]',
    )
    return readme(
        artifact,
        "openvino",
        "A Pennyweight classifier for OpenVINO",
        loading,
        f"fp32, any batch and any length up to {artifact.recipe.data.max_length} tokens.",
        f"Its logits differed from Pennyweight's by at most {difference:.1e} on {len(example_texts(artifact))} texts.",
    )
