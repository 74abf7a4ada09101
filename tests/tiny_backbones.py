"""Tiny backbones of every kind: real ones, with random weights and a tokenizer of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

SENTENCES = [
    "The central bank held its rate as inflation slowed for a third month in a row.",
    "Shares of the airline fell after it cut its forecast for the quarter.",
    "The striker scored twice in the final ten minutes to win the cup.",
    "Rain stopped play on the second day of the test match in Galle.",
    "Ministers met in Geneva to talk about a ceasefire and the release of prisoners.",
    "Voters in the province go to the polls on Sunday after a quiet campaign.",
    "The probe sent back its first pictures of the small moon's icy surface.",
    "A new chip runs the model at half the power, its makers said on Tuesday.",
    "Officials said 1,200 people left the valley; the river rose 4.5 metres overnight.",
    "Why would anyone buy a phone without a screen? Because it's cheap, quick and fun!",
]

BACKBONES = ("bert", "minilm", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert", "mpnet")

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 160,
}


def save_backbone(folder: Path, kind: str, overrides: dict[str, Any]) -> Path:
    """Write config.json, model.safetensors and a tokenizer; weights are random but the same in every run."""
    import torch
    from transformers import AutoConfig, AutoModel

    tokenizer = _tokenizer(kind)
    model_type, own = _config(kind)
    own |= {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    config = AutoConfig.for_model(model_type, **{**own, "vocab_size": len(tokenizer), **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        # Fresh models have zero biases and unit norms: a forward pass that forgot one would go unseen.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _config(kind: str) -> tuple[str, dict[str, Any]]:
    """transformers' model type, and the config of a small model of that kind."""
    if kind == "minilm":
        return "bert", {**_SIZES, "num_hidden_layers": 6}
    if kind in ("roberta", "xlm-roberta"):
        # Positions start after the padding id, and there is a single token type, as in the published checkpoints.
        return kind, {**_SIZES, "max_position_embeddings": 162, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    if kind == "distilbert":
        return kind, {
            "dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 160,
        }  # fmt: skip
    if kind == "electra":
        return kind, {**_SIZES, "embedding_size": 16}
    if kind == "deberta-v2":  # with the switches of deberta-v3
        return kind, {
            **_SIZES, "relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm",
            "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
            "max_relative_positions": -1, "type_vocab_size": 0, "pooler_hidden_size": 32,
        }  # fmt: skip
    if kind == "mpnet":
        return kind, {**_SIZES, "max_position_embeddings": 162, "layer_norm_eps": 1e-5}
    if kind == "modernbert":
        return kind, {**_SIZES, "local_attention": 16, "global_attn_every_n_layers": 3}
    if kind == "bert":
        return kind, dict(_SIZES)
    raise ValueError(f"no tiny backbone of kind {kind!r}: one of {', '.join(BACKBONES)}")


def _tokenizer(kind: str) -> Any:
    """The kind's own tokenizer class around a small vocabulary made from `SENTENCES`."""
    from transformers import (
        BertTokenizer,
        DebertaV2Tokenizer,
        MPNetTokenizer,
        PreTrainedTokenizerFast,
        RobertaTokenizer,
        XLMRobertaTokenizer,
    )

    if kind == "roberta":
        vocab, merges = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        return RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=160)
    if kind == "modernbert":
        return PreTrainedTokenizerFast(
            tokenizer_object=_modernbert_tokenizer(), model_max_length=160, pad_token="[PAD]", unk_token="[UNK]",
            cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        )  # fmt: skip
    if kind == "xlm-roberta":
        return XLMRobertaTokenizer(vocab=_unigram(["<s>", "<pad>", "</s>", "<unk>"]), model_max_length=160)
    if kind == "deberta-v2":
        return DebertaV2Tokenizer(vocab=_unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"]), unk_id=3, model_max_length=160)
    if kind == "mpnet":
        return MPNetTokenizer(vocab=_word_pieces(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]), model_max_length=160)
    return BertTokenizer(
        vocab=_word_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]), do_lower_case=True, model_max_length=160
    )


# The vocabularies are read off SENTENCES by plain rules. The trainers of `tokenizers` break ties by chance, and a
# backbone that differs from run to run makes tests that fail now and then.


def _words() -> list[str]:
    return sorted({word for sentence in SENTENCES for word in re.findall(r"\w+", sentence)})


def _characters() -> list[str]:
    return sorted({character for sentence in SENTENCES for character in sentence if not character.isspace()})


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _word_pieces(special: list[str]) -> dict[str, int]:
    """Characters, short words whole, and long words in runs of three."""
    words = [word.lower() for word in _words()]
    characters = [character.lower() for character in _characters()]
    pieces = [*special, *characters, *(f"##{character}" for character in characters)]
    pieces += [word for word in words if len(word) <= 5]
    pieces += [word[:3] for word in words]
    pieces += [f"##{word[start : start + 3]}" for word in words for start in range(3, len(word), 3)]
    return _numbered(pieces)


def _byte_pairs(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """All bytes, and the merges that build short words from the left."""
    from tokenizers.pre_tokenizers import ByteLevel

    words = [f"Ġ{word}" for word in _words() if len(word) <= 5]
    merges = dict.fromkeys((word[:end], word[end]) for word in words for end in range(1, len(word)))
    pieces = [*special, *sorted(ByteLevel.alphabet()), *(left + right for left, right in merges)]
    return _numbered(pieces), list(merges)


def _unigram(special: list[str]) -> list[tuple[str, float]]:
    """Characters, dear, and short words, cheap."""
    pieces = dict.fromkeys(special, 0.0)
    pieces |= dict.fromkeys(["▁", *_characters()], -8.0)
    pieces |= dict.fromkeys([f"▁{word}" for word in _words() if len(word) <= 5], -4.0)
    return list(pieces.items())


def _modernbert_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocab, merges = _byte_pairs(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return tokenizer
