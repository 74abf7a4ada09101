"""Logits without gradients: by the inference engine, or by the model as it is trained."""

from .feeds import Feed, TokenFeed, evaluating, logits

__all__ = ["Feed", "TokenFeed", "evaluating", "logits"]
