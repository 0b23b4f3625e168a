"""Attention by the names that scripts know: ``from labqueue.llm.attention import extract_attention``."""

from __future__ import annotations

from labqueue.llm.interp.attention import AttentionExtractor, AttentionOutput, extract_attention

__all__ = ["AttentionExtractor", "AttentionOutput", "extract_attention"]
