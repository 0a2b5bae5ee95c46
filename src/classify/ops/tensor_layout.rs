//! The layout of a batch on a device: without padding where flash attention works, else padded.
//!
//! Knows nothing of layers.

use candle_core::{Result, Tensor};

use super::padded::PaddedAttention;
use super::tensors::TensorRope;
use super::varlen::VarlenAttention;
use super::{AttentionPattern, AttentionShape};
use crate::device::TensorEngine;

pub(super) enum TensorLayout {
    Padded(PaddedAttention),
    Varlen(VarlenAttention),
}

impl TensorLayout {
    pub(super) fn new(
        starts: &[usize],
        shape: AttentionShape,
        patterns: &[AttentionPattern<'_>],
        engine: &TensorEngine,
    ) -> Result<Self> {
        if engine.has_flash(shape.head_size) {
            return VarlenAttention::new(starts, shape, patterns, engine).map(Self::Varlen);
        }
        let reaches: Vec<Option<usize>> = patterns.iter().map(|pattern| pattern.reach).collect();
        PaddedAttention::new(starts, shape, &reaches, engine).map(Self::Padded)
    }

    /// Takes (tokens, 3 · width), returns (tokens, width); `pattern` is an index into the patterns.
    pub(super) fn attention(
        &self,
        qkv: &Tensor,
        pattern: usize,
        rope: Option<&TensorRope>,
    ) -> Result<Tensor> {
        match self {
            Self::Padded(padded) => padded.attention(qkv, pattern, rope),
            Self::Varlen(varlen) => varlen.attention(qkv, pattern),
        }
    }
}
