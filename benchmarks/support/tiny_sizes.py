"""How small each field of a configuration becomes in a tiny model: one table for all, and what some need besides."""

from __future__ import annotations

from typing import Any

WIDTH, INNER, HEADS, HEAD, VOCABULARY, LONGEST = 32, 48, 4, 8, 97, 64

_SAME: dict[int, str] = {
    2: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers "
    "num_encoder_layers num_blocks num_layers_per_stack num_experts_per_tok num_experts_per_token top_k_experts moe_k "
    "moe_topk n_group num_expert_group index_n_heads num_query_groups heads_per_ngram hc_sinkhorn_iters "
    "linear_num_key_heads indexer_n_heads swa_num_key_value_heads moe_top_k kv_n_heads",
    1: "topk_group first_k_dense_replace num_dense_layers mamba_n_groups n_groups moe_layer_start_index "
    "n_shared_experts num_shared_experts moe_num_shared_experts num_nextn_predict_layers",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads num_experts n_routed_experts num_local_experts "
    "moe_num_experts linear_num_heads linear_num_value_heads mamba_n_heads mamba_num_heads "
    "swa_num_attention_heads index_block_size time_step_rank mamba_dt_rank qk_rope_head_dim rotary_dim",
    6: "sliding_window sliding_window_size window_size attention_window_size local_attention keep_window_size",
    8: "head_dim qk_nope_head_dim v_head_dim index_head_dim linear_head_dim linear_key_head_dim linear_value_head_dim "
    "swa_head_dim d_head kv_channels attention_head_size mamba_d_state state_size ssm_state_size chunk_size "
    "mamba_chunk_size block_size d_rel adapter_rank laurel_rank hidden_size_per_layer_input indexer_head_dim "
    "query_pre_attn_scalar local_attn_chunk_length lsh_attn_chunk_length dim_head attention_chunk_size "
    "qk_rope_head_dim_total gated_norm_rank",
    12: "q_lora_rank kv_lora_rank o_lora_rank",
    16: "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size shared_intermediate_size "
    "shared_experts_intermediate_size moe_shared_expert_intermediate_size router_hidden_size mamba_d_head "
    "mamba_head_dim embedding_size input_embedding_size",
    WIDTH: "hidden_size d_model n_embd emb_dim embedding_dim lru_width word_embed_proj_dim attention_hidden_size "
    "backbone_hidden_size output_embedding_size",
    INNER: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim dff dim_ff ffn_hidden_size d_inner mlp_dim "
    "feed_forward_size intermediate_size_mlp dense_intermediate_size prefix_dense_intermediate_size",
    # index_topk, of how many tokens sparse attention looks at, as large as the longest row: its default of 2048 is
    # larger than most rows too, and where it is smaller the choice depends on the padding behind a row.
    64: "index_topk max_position_embeddings n_positions n_ctx max_seq_len context_length max_target_positions "
    "max_source_positions model_max_length rel_extent original_max_position_embeddings relative_max_distance "
    "position_bias_max_distance mamba_d_ssm ffn_round_up_to_multiple_of",
    VOCABULARY: "vocab_size decoder_vocab_size vocab_size_per_layer_input unpadded_vocab_size audio_vocab_size",
}
SIZES: dict[str, int] = {name: size for size, names in _SAME.items() for name in names.split()}
"""Taken where the field's default is a larger number; a field that is None or smaller stays as it is."""

TOKENS = {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 4, "mask_token_id": 5}
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers")

ENCODERS = {"is_decoder": True}
"""Models of the BERT kind: a causal language model only if they are told to be one."""

_SOME = {"num_experts_per_tok": 2, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}
_SCALED = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0}
_CONV = {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]}
_SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
_HYBRID = {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2}
_SHARED = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {
        "encoder_config": {**_SMALL, "hidden_size_global": 64},
        "decoder_config": {**_SMALL, "hidden_size_global": 64},
        "patcher_config": _SMALL,
        "global_config": {**_SMALL, "hidden_size": 64},
        "encoder_hash_byte_group_vocab": 97,
    },
    "cohere_compass_text": {
        "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": dict.fromkeys(("sliding_attention", "full_attention"), _ROPE),
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2}},
    "deepseek_v2": _SOME,
    "dots1": _SOME,
    "dots3_note_text": {
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 12, "swa_kv_lora_rank": 12,
        "swa_head_dim": 12, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8, "head_dim": 12,
    },
    "falcon_h1": {"lm_head_multiplier": 0.5, "embedding_multiplier": 2.0},
    "gemma3n_text": {**_SHARED, "intermediate_size": [48] * 4, "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0]},
    "flint": {"mlp_only_layers": [0]},
    "gemma4_text": {**_SHARED, "global_head_dim": 16, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2,
                    "moe_intermediate_size": 16},
    "gemma4_unified_text": {**_SHARED, "global_head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite": _SCALED,
    "granite_swa": _SCALED,
    "granitemoe": _SCALED,
    "granitemoehybrid": {**_SCALED, "layer_types": ["mamba", "attention"]},
    "granitemoeshared": {**_SCALED, "shared_intermediate_size": 16},
    "granitemoe_swa": {**_SCALED, "shared_intermediate_size": 16},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": _CONV,
    "lfm2_moe": _CONV,
    "llama4_text": {
        "num_hidden_layers": 2, "layer_types": ["chunked_attention", "full_attention"], "no_rope_layers": [1, 0],
        "moe_layers": [1],
    },
    "longcat_flash": {"head_dim": 4, "zero_expert_num": 2},
    "mamba2": {"head_dim": 16},
    "phi4_multimodal": {
        "audio_config": {"hidden_size": 32, "intermediate_size": 48, "num_blocks": 1, "nemo_conv_channels": 16,
                         "ext_pw_out_channel": 32, "num_attention_heads": 4},
        "vision_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 64,
        "indexer_compress_ratio": 4, "ple_layer_ids": [1], "ple_embed_dim": 32, "hc_lowrank": 8,
        "ngram_vocab_size_base": 97, "heads_per_ngram": 2, "make_ngram_vocab_size_divisible_by": 1,
        "split_ngram_parts": 1,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "roc_bert": {
        "pronunciation_embed_dim": 16, "pronunciation_vocab_size": 97, "shape_embed_dim": 16, "shape_vocab_size": 97
    },
    "mllama": {"text_config": {**_SMALL, "vocab_size": 97, "num_hidden_layers": 3, "cross_attention_layers": [1],
                               "num_key_value_heads": 2, "pad_token_id": 3}},
    "nemotron": {"num_key_value_heads": 2},
    "rwkv": {"rescale_every": 0},  # else the weights of a model in evaluation mode aren't those that are trained
    "xmod": {"default_language": "en_XX"},
    "zamba": {**_HYBRID, "attention_hidden_size": 64, "attention_head_dim": 16, "mamba_dt_rank": 4},
    "zamba2": {
        **_HYBRID, "use_shared_attention_adapter": True, "attention_hidden_size": 64, "attention_head_dim": 16
    },
}  # fmt: skip
"""What an architecture needs besides."""

SKIPPED: dict[str, str] = {
    "gemma4_assistant": "drafts tokens from the hidden states of another model",
    "gemma4_unified_assistant": "drafts tokens from the hidden states of another model",
    "reformer": "its backward runs in training mode only, and draws its buckets at random",
    "gemma3n": "its vision tower needs timm",
    "musicgen": "reads and writes tokens of sound",
    "musicgen_melody": "reads and writes tokens of sound",
    "git": "needs an image: its logits begin after the image's tokens",
}
"""Why an architecture isn't built."""
