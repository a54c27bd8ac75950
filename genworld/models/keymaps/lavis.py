"""BLIP-2 as LAVIS and so 3D-LLM name it, in transformers' names.

    theirs                                                      ours
    query_tokens                                                query_tokens
    Qformer.bert.embeddings.LayerNorm.*                         qformer.layernorm.*
    Qformer.bert.encoder.layer.N.attention.self.*               qformer.encoder.layer.N.attention.attention.*
    Qformer.bert.encoder.layer.N.crossattention.self.*          qformer.encoder.layer.N.crossattention.attention.*
    Qformer.bert.encoder.layer.N.(cross)attention.output.*      the same after the prefix
    Qformer.bert.encoder.layer.N.intermediate_query, .output_query   the same
    t5_proj, opt_proj or llm_proj                               language_projection
    t5_model, opt_model or llm_model                            language_model

Ours are those of `transformers.Blip2ForConditionalGeneration`, whose `qformer` is a plain `Blip2QFormerModel`.
"""

from __future__ import annotations

from collections.abc import Iterator

from genworld.models.weights import Rename

LANGUAGE_MODELS = ("t5_model.", "opt_model.", "llm_model.")
PROJECTIONS = ("t5_proj", "opt_proj", "llm_proj")

IGNORED = {
    r"(visual_encoder|ln_vision)\..*": "the image encoder: 3D-LLM is given features",
    r"Qformer\.cls\..*": "the Q-Former's head for text, which points do not use",
    r"Qformer\.bert\.embeddings\.(word_embeddings|position_embeddings|position_ids)(\..*)?": (
        "the Q-Former's embeddings of text, which points do not use"
    ),
    r"Qformer\.bert\.encoder\.layer\.\d+\.(intermediate|output)\..*": (
        "the Q-Former's layers for text, which points do not use"
    ),
    r"(vision_proj|text_proj|itm_head)\..*|temp": "heads of BLIP-2's first stage",
    r"pos_embedding": "the table of position encodings, which is computed",
}
"""Patterns of names that have no counterpart on purpose, and why."""


def lavis_rules() -> list[Rename]:
    """Names of the Q-Former, its queries and the projection that follows it."""
    layer, ours = "Qformer.bert.encoder.layer.*", "qformer.encoder.layer.*"
    pairs = [("Qformer.bert.embeddings.LayerNorm", "qformer.layernorm")]
    pairs += [(theirs, "language_projection") for theirs in PROJECTIONS]
    for block in ("attention", "crossattention"):
        pairs += [(f"{layer}.{block}.self.{x}", f"{ours}.{block}.attention.{x}") for x in ("query", "key", "value")]
        pairs += [(f"{layer}.{block}.output.{x}", f"{ours}.{block}.output.{x}") for x in ("dense", "LayerNorm")]
    for part in ("intermediate_query.dense", "output_query.dense", "output_query.LayerNorm"):
        pairs.append((f"{layer}.{part}", f"{ours}.{part}"))
    return [Rename("query_tokens", "query_tokens"), *(rule for pair in pairs for rule in _both(*pair))]


def _both(theirs: str, ours: str) -> Iterator[Rename]:
    return (Rename(f"{theirs}.{kind}", f"{ours}.{kind}") for kind in ("weight", "bias"))
