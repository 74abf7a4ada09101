"""The folder of a saved classifier: file names and contents.

| file                                | holds                                                             |
|-------------------------------------|-------------------------------------------------------------------|
| pennyweight.json                    | the manifest: format, labels, backbone, versions, checksums, seal |
| recipe.yaml                         | the resolved recipe; trains the same again from the same data     |
| plan.json                           | what is trained, part by part                                     |
| metrics.json                        | what was measured                                                 |
| adapter/adapter_config.json         | the adapter as PEFT describes it (absent for head-only)           |
| adapter/adapter_model.safetensors   | the adapter as PEFT stores it                                     |
| head.safetensors                    | the classification head                                           |
| answers.safetensors                 | its predictions for validation and test rows, with confidences    |
| int8_ranges.safetensors             | what inference in int8 rounds by, where that was tried            |
| tokenizer/                          | the tokenizer as transformers stores it                           |
| README.md                           | the model card                                                    |

The frozen backbone is not copied: the manifest names it and holds its weights' checksum, which is compared.
"""

MANIFEST = "pennyweight.json"
RECIPE = "recipe.yaml"
PLAN = "plan.json"
METRICS = "metrics.json"
CARD = "README.md"
ADAPTER_CONFIG = "adapter/adapter_config.json"
ADAPTER = "adapter/adapter_model.safetensors"
HEAD = "head.safetensors"
PREDICTIONS = "answers.safetensors"
RANGES = "int8_ranges.safetensors"
TOKENIZER = "tokenizer"

# Without these it is not a classifier.
REQUIRED = (RECIPE, PLAN, METRICS, HEAD, "tokenizer/tokenizer.json")
# Folders that libraries read as a whole, so that a file the manifest does not list could change the predictions.
LIBRARY_FOLDERS = ("adapter", "tokenizer")
# All that a save may write, as it lies in the folder.
ITEMS = (MANIFEST, RECIPE, PLAN, METRICS, CARD, HEAD, PREDICTIONS, RANGES, *LIBRARY_FOLDERS)
# The name under which `atomic_items` writes them.
WRITER = "artifact"
