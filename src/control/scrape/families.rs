//! Owns the names under which engines show what is read of them.
//! Refuses to know what is made of it.
//!
//! Sources: the engines' own tables of metrics (vLLM 0.6 to 0.32, `SGLang`, `trtllm-serve`, Triton with its TensorRT-LLM
//! backend, llama.cpp), and the model server protocol of the Gateway API Inference Extension.

use crate::policy::EngineKind;

/// A family of metrics, by what it says of its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EngineFamily {
    /// Requests that wait, whatever for.
    Waiting,
    /// Requests that wait, by the label `reason`.
    WaitingByReason,
    /// Requests in the running batch.
    Running,
    /// Requests, by the label `request_type`.
    RequestsByType,
    /// The share of the KV cache in use.
    KvUsage,
    /// The same, under a name that newer versions show beside [`Self::KvUsage`] or no more.
    OldKvUsage,
    /// Tokens in a block of the KV cache.
    BlockTokens,
    /// Blocks of the KV cache.
    Blocks,
    /// All three, by the label `kv_cache_block_type`.
    BlocksByType,
    /// The size of the KV cache, in the labels of these names.
    CacheConfig { block_tokens: &'static [u8], blocks: &'static [u8] },
    /// What of the engine is awake, by the label `sleep_state`.
    SleepState,
    /// The adapters, in labels; the value is when that was so, in seconds since 1970.
    Adapters,
}

/// The family of this name, where it is one of the engine's that are read.
pub(super) fn family(engine: EngineKind, name: &[u8]) -> Option<EngineFamily> {
    let known = |kind, find: fn(&[u8]) -> Option<EngineFamily>, prefix: &[u8]| {
        let rest = name.strip_prefix(prefix)?;
        if engine == EngineKind::Auto || engine == kind { find(rest) } else { None }
    };
    // By the first byte, since nearly all lines of a page are of other families.
    match name.first()? {
        b'v' => known(EngineKind::Vllm, vllm, b"vllm:"),
        b's' => known(EngineKind::Sglang, sglang, b"sglang:"),
        b't' => known(EngineKind::Trtllm, trtllm, b"trtllm_"),
        b'n' => known(EngineKind::Triton, triton, b"nv_"),
        b'l' => known(EngineKind::Llamacpp, llamacpp, b"llamacpp:"),
        _ => None,
    }
}

fn vllm(name: &[u8]) -> Option<EngineFamily> {
    Some(match name {
        b"num_requests_waiting" => EngineFamily::Waiting,
        b"num_requests_waiting_by_reason" => EngineFamily::WaitingByReason,
        b"num_requests_running" => EngineFamily::Running,
        b"kv_cache_usage_perc" => EngineFamily::KvUsage,
        b"gpu_cache_usage_perc" => EngineFamily::OldKvUsage,
        b"cache_config_info" => {
            EngineFamily::CacheConfig { block_tokens: b"block_size", blocks: b"num_gpu_blocks" }
        }
        b"engine_sleep_state" => EngineFamily::SleepState,
        b"lora_requests_info" => EngineFamily::Adapters,
        _ => return None,
    })
}

fn sglang(name: &[u8]) -> Option<EngineFamily> {
    Some(match name {
        b"num_queue_reqs" => EngineFamily::Waiting,
        b"num_running_reqs" => EngineFamily::Running,
        b"token_usage" => EngineFamily::KvUsage,
        b"cache_config_info" => {
            EngineFamily::CacheConfig { block_tokens: b"page_size", blocks: b"num_pages" }
        }
        _ => return None,
    })
}

fn trtllm(name: &[u8]) -> Option<EngineFamily> {
    Some(match name {
        b"num_requests_waiting" => EngineFamily::Waiting,
        b"num_requests_running" => EngineFamily::Running,
        b"kv_cache_utilization" => EngineFamily::KvUsage,
        b"kv_cache_tokens_per_block" => EngineFamily::BlockTokens,
        b"kv_cache_max_blocks" => EngineFamily::Blocks,
        _ => return None,
    })
}

fn triton(name: &[u8]) -> Option<EngineFamily> {
    Some(match name {
        b"trt_llm_request_metrics" => EngineFamily::RequestsByType,
        b"trt_llm_kv_cache_block_metrics" => EngineFamily::BlocksByType,
        // What runs it does not show: `nv_inference_exec_count` counts since the start.
        b"inference_pending_request_count" => EngineFamily::Waiting,
        _ => return None,
    })
}

fn llamacpp(name: &[u8]) -> Option<EngineFamily> {
    Some(match name {
        b"requests_deferred" => EngineFamily::Waiting,
        b"requests_processing" => EngineFamily::Running,
        b"kv_cache_usage_ratio" => EngineFamily::KvUsage,
        _ => return None,
    })
}
