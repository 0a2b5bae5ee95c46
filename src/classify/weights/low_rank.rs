//! Matrices of low rank that an adapter adds to those of a model, one pair for each of them.
//!
//! Knows names of tensors as PEFT writes them, and nothing of what they are for.

use std::path::Path;

use super::Weights;
use crate::load_error::LoadError;

/// What the names of an adapter's tensors begin with.
pub(super) const ADAPTER: &str = "base_model.model.";
const DOWN: &str = ".lora_A.weight";
const UP: &str = ".lora_B.weight";

/// What is added to a matrix: `scale` · up · down.
pub(super) struct LowRank {
    down: String,
    up: String,
    rank: usize,
    scale: f32,
}

impl Weights {
    /// Adds the tensors of an adapter's file: pairs of low rank are added to their matrices when those are read, the others
    /// take the place of what had their name. `scale` tells what a module's pair of some rank is multiplied by.
    pub(in super::super) fn adapt(
        &mut self,
        path: &Path,
        scale: &dyn Fn(&str, usize) -> f32,
    ) -> Result<(), LoadError> {
        let adapter = Self::open(path, &[path.to_owned()])?;
        let broken = |reason: String| LoadError::Weights { path: path.to_owned(), reason };
        let mut names: Vec<String> = adapter.entries.keys().cloned().collect();
        names.sort();
        let parts = self.parts.len();
        let mut entries = adapter.entries;
        let mut pairs = Vec::new();
        for whole in names {
            let Some(mut entry) = entries.remove(&whole) else { continue };
            entry.part += parts;
            let Some(name) = whole.strip_prefix(ADAPTER) else {
                return Err(broken(format!("{whole}: not a tensor of an adapter")));
            };
            if let Some(module) = name.strip_suffix(DOWN) {
                pairs.push(module.to_owned());
            } else if !name.ends_with(UP) {
                if name.contains("lora_") {
                    return Err(broken(format!("{whole}: of a kind that is not computed")));
                }
                self.entries.insert(name.to_owned(), entry);
                continue;
            }
            self.entries.insert(whole, entry);
        }
        self.parts.extend(adapter.parts);
        for module in pairs {
            let base = self
                .adapted(&module)
                .ok_or_else(|| broken(format!("{module}: the base has no such matrix")))?;
            let (down, up) = (format!("{ADAPTER}{module}{DOWN}"), format!("{ADAPTER}{module}{UP}"));
            let rank = self.shape(&down).and_then(|shape| shape.first().copied()).unwrap_or(0);
            if rank == 0 || !self.has(&up) {
                return Err(broken(format!("{module}: half of a pair, or of rank 0")));
            }
            let scale = scale(&module, rank);
            self.low_rank.insert(base, LowRank { down, up, rank, scale });
        }
        let lost = |name: &&String| {
            let module = name.strip_prefix(ADAPTER).and_then(|name| name.strip_suffix(UP));
            module.is_some_and(|module| !self.has(&format!("{ADAPTER}{module}{DOWN}")))
        };
        match self.entries.keys().find(lost) {
            Some(name) => Err(broken(format!("{name}: half of a pair"))),
            None => Ok(()),
        }
    }

    /// Finds the matrix that a module of an adapter is for, whether or not either is named with the class around it.
    fn adapted(&self, module: &str) -> Option<String> {
        let weight = format!("{module}.weight");
        let bare = weight.split_once('.').map(|(_, rest)| rest.to_owned());
        let exact = [Some(weight.clone()), bare.filter(|bare| bare.contains('.'))];
        let is_base = |name: &String| !name.starts_with(ADAPTER) && self.entries.contains_key(name);
        exact.into_iter().flatten().find(is_base).or_else(|| {
            let inner = format!(".{weight}");
            let mut found =
                self.entries.keys().filter(|name| !name.starts_with(ADAPTER) && name.ends_with(&inner));
            found.next().cloned().filter(|_| found.next().is_none())
        })
    }

    /// Adds what an adapter adds to a matrix (rows, columns), if anything.
    pub(super) fn add_low_rank(&self, name: &str, shape: &[usize], all: &mut [f32]) -> Result<(), LoadError> {
        let Some(LowRank { down, up, rank, scale }) = self.low_rank.get(name) else { return Ok(()) };
        let &[rows, cols] = shape else {
            return Err(self.differs(name, "a matrix, which an adapter is for".to_owned()));
        };
        self.digest.borrow_mut().update(&scale.to_le_bytes());
        let (down, up) = (self.floats(down, &[*rank, cols])?, self.floats(up, &[rows, *rank])?);
        for (row, up) in all.chunks_exact_mut(cols).zip(up.chunks_exact(*rank)) {
            for (weight, down) in up.iter().zip(down.chunks_exact(cols)) {
                let weight = weight * scale;
                row.iter_mut().zip(down).for_each(|(sum, x)| *sum += weight * x);
            }
        }
        Ok(())
    }
}
