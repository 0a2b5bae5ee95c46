//! Layers built from named tensors: the step between a file of weights and the operations on a device.
//!
//! Knows names only relative to a prefix, and nothing of architectures.

use super::device::Place;
use super::load_error::LoadError;
use super::ops::{Gated, Linear, Matrix, Norm, Table};
use super::weights::Weights;

/// The tensors under one prefix, and the device that they go to.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    pub(super) weights: &'a Weights,
    pub(super) place: &'a Place,
    prefix: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(weights: &'a Weights, place: &'a Place) -> Self {
        Self { weights, place, prefix: String::new() }
    }

    /// Returns a reader of what lies under `part` here, which ends in a dot or is empty.
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

    /// Reads `<name>.weight` (out, in) and `<name>.bias` where there is one.
    pub(super) fn linear(&self, name: &str, shape: (usize, usize)) -> Result<Linear, LoadError> {
        self.fused(&[name], shape)
    }

    /// Reads dense layers of equal shape side by side as one.
    pub(super) fn fused(&self, names: &[&str], shape: (usize, usize)) -> Result<Linear, LoadError> {
        let (weight, bias) = self.stacked(names, shape)?;
        Ok(Linear::new(weight, bias, self.place)?)
    }

    /// Reads a dense layer of which one half of the outputs gates the other.
    pub(super) fn gated(&self, name: &str, shape: (usize, usize)) -> Result<Gated, LoadError> {
        let (weight, bias) = self.stacked(&[name], shape)?;
        Ok(Gated::new(weight, bias, self.place)?)
    }

    fn stacked(
        &self,
        names: &[&str],
        shape: (usize, usize),
    ) -> Result<(Matrix, Option<Vec<f32>>), LoadError> {
        let matrices: Vec<String> = names.iter().map(|name| self.name(&format!("{name}.weight"))).collect();
        let weight = self.weights.stacked(&matrices, shape)?;
        let biases: Vec<String> = names.iter().map(|name| self.name(&format!("{name}.bias"))).collect();
        let mut bias = None;
        if biases.iter().any(|name| self.weights.has(name)) {
            let mut all = Vec::with_capacity(shape.0 * names.len());
            for name in &biases {
                all.extend(self.weights.vector(name, shape.0)?);
            }
            bias = Some(all);
        }
        Ok((weight, bias))
    }

    /// Reads `<name>.weight` and `<name>.bias` where there is one.
    pub(super) fn norm(&self, name: &str, width: usize, epsilon: f32) -> Result<Norm, LoadError> {
        let gain = self.weights.vector(&self.name(&format!("{name}.weight")), width)?;
        let shift = self.weights.vector_if_any(&self.name(&format!("{name}.bias")), width)?;
        Ok(Norm::new(gain, shift, epsilon, self.place)?)
    }

    /// Reads a table of which single rows are looked up.
    pub(super) fn table(&self, name: &str, shape: (usize, usize)) -> Result<Table, LoadError> {
        Ok(Table::new(self.weights.matrix(&self.name(name), shape)?, self.place)?)
    }

    /// Returns a tensor's whole name.
    pub(super) fn name(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }
}
