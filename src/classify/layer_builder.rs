//! Layers built from named tensors: the step between a file of weights and the operations on a device.
//!
//! Knows names only relative to a prefix, and nothing of architectures.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use signalbox_kernels::PackedMatrix;

use super::device::ComputeDevice;
use super::load_error::LoadError;
use super::ops::{EmbeddingTable, GatedLinear, LayerNorm, Linear, Matrix};
use super::weights::Weights;

/// The tensors under one prefix, and the device that they go to.
#[derive(Clone)]
pub(super) struct LayerBuilder<'a> {
    pub(super) weights: &'a Weights,
    pub(super) device: &'a ComputeDevice,
    prefix: String,
}

impl<'a> LayerBuilder<'a> {
    pub(super) fn new(weights: &'a Weights, device: &'a ComputeDevice) -> Self {
        Self { weights, device, prefix: String::new() }
    }

    /// Returns a builder from the tensors under `part`, which ends in a dot or is empty.
    pub(super) fn under(&self, part: &str) -> Self {
        Self { prefix: format!("{}{part}", self.prefix), ..self.clone() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.weights.has(&self.name(name))
    }

    /// Returns how many rows a matrix has.
    pub(super) fn rows(&self, name: &str) -> Option<usize> {
        self.weights.shape(&self.name(name)).and_then(|shape| shape.first().copied())
    }

    /// Reads `<name>.weight` (outputs, inputs) and `<name>.bias` where there is one.
    pub(super) fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear, LoadError> {
        self.fused(&[name], inputs, outputs)
    }

    /// Reads a dense layer that is computed on the processor, whatever the device.
    pub(super) fn packed(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<PackedMatrix, LoadError> {
        let (weight, bias) = self.stacked(&[name], inputs, outputs)?;
        Ok(PackedMatrix::new(&weight, bias.as_deref()))
    }

    /// Reads dense layers of equal shape side by side as one.
    pub(super) fn fused(&self, names: &[&str], inputs: usize, outputs: usize) -> Result<Linear, LoadError> {
        let (weight, bias) = self.stacked(names, inputs, outputs)?;
        Ok(Linear::new(weight, bias, self.device)?)
    }

    /// Reads dense layers of equal shape side by side as one of an encoder's, whose rows may be rounded: what heads read may
    /// not, since its columns differ in scale.
    pub(super) fn encoder_linear(
        &self,
        names: &[&str],
        inputs: usize,
        outputs: usize,
    ) -> Result<Linear, LoadError> {
        let (weight, bias) = self.stacked(names, inputs, outputs)?;
        Ok(Linear::with_rounded_rows(weight, bias, self.device)?)
    }

    /// Reads a dense layer of 2 · outputs, of which one half gates the other.
    pub(super) fn gated(&self, name: &str, inputs: usize, outputs: usize) -> Result<GatedLinear, LoadError> {
        let (weight, bias) = self.stacked(&[name], inputs, outputs.saturating_mul(2))?;
        Ok(GatedLinear::new(weight, bias, self.device)?)
    }

    fn stacked(
        &self,
        names: &[&str],
        inputs: usize,
        outputs: usize,
    ) -> Result<(Matrix, Option<Vec<f32>>), LoadError> {
        let matrices: Vec<String> = names.iter().map(|name| self.name(&format!("{name}.weight"))).collect();
        let weight = self.weights.stacked(&matrices, outputs, inputs)?;
        let biases: Vec<String> = names.iter().map(|name| self.name(&format!("{name}.bias"))).collect();
        let mut bias = None;
        if biases.iter().any(|name| self.weights.has(name)) {
            let mut all = Vec::with_capacity(outputs * names.len());
            for name in &biases {
                all.extend(self.weights.vector(name, outputs)?);
            }
            bias = Some(all);
        }
        Ok((weight, bias))
    }

    /// Reads `<name>.weight` and `<name>.bias` where there is one.
    pub(super) fn norm(&self, name: &str, width: usize, epsilon: f32) -> Result<LayerNorm, LoadError> {
        let gain = self.weights.vector(&self.name(&format!("{name}.weight")), width)?;
        let shift = self.weights.vector_if_any(&self.name(&format!("{name}.bias")), width)?;
        Ok(LayerNorm::new(gain, shift, epsilon, self.device)?)
    }

    /// Reads a table of which single rows are looked up.
    pub(super) fn table(&self, name: &str, rows: usize, width: usize) -> Result<EmbeddingTable, LoadError> {
        let packed = self.name(&format!("{name}.q4"));
        if self.weights.has(&packed) {
            let rows = self.weights.nibbles(&packed, rows, width)?;
            return Ok(EmbeddingTable::of_nibbles(rows, self.device)?);
        }
        Ok(EmbeddingTable::new(self.weights.matrix(&self.name(name), rows, width)?, self.device)?)
    }

    /// Reads all tensors under the prefix for a model that takes its own, each named with `root` instead of the prefix. What
    /// is allocated is what the file holds, whatever its configuration says.
    pub(super) fn tensors(&self, root: &str, dtype: DType) -> Result<VarBuilder<'static>, LoadError> {
        let device = self.device.candle();
        let mut all = HashMap::new();
        for name in self.weights.names_under(&self.prefix) {
            let (shape, values) = self.weights.whole(&self.name(&name))?;
            let tensor =
                Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(&device)?;
            all.insert(format!("{root}{name}"), tensor);
        }
        Ok(VarBuilder::from_tensors(all, dtype, &device))
    }

    /// Returns the error of a model that does not find its tensors in the file.
    pub(super) fn broken(&self, error: &candle_core::Error) -> LoadError {
        // candle appends a backtrace where they are on.
        let error = error.to_string();
        let reason = error.lines().next().unwrap_or_default().to_owned();
        LoadError::Weights { path: self.weights.path().to_owned(), reason }
    }

    /// Returns how many columns a matrix has.
    pub(super) fn columns(&self, name: &str) -> Option<usize> {
        self.weights.shape(&self.name(name)).and_then(|shape| shape.get(1).copied())
    }

    /// Returns a tensor's whole name.
    pub(super) fn name(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }
}
