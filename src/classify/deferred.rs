//! A model inside this binary whose weights are read once the first text needs them, or once it is known that some will.
//!
//! Until then it is what its configuration says. Knows nothing of texts.

use std::sync::{Arc, OnceLock};

use signalbox_policy::{HubSpec, ModelSource};

use super::backend::{HeadOutputs, ModelBackend, ModelError, TokenizedText, WindowPair};
use super::builtin::BuiltinConfig;
use super::device::ComputeDevice;
use super::load_error::LoadError;
use super::model::{LoadOptions, LoadedModel};
use super::model_files::ModelFiles;
use super::model_parts::HeadSelection;
use super::{ClassifyHead, ClassifyHeads, ModelInfo};

pub(super) struct DeferredModel {
    source: ModelSource,
    config: BuiltinConfig,
    heads: ClassifyHeads,
    device: ComputeDevice,
    loaded: OnceLock<Result<LoadedModel, Arc<LoadError>>>,
}

impl DeferredModel {
    /// Reads the configuration alone.
    pub(super) fn new(
        source: ModelSource,
        heads: ClassifyHeads,
        device: &ComputeDevice,
    ) -> Result<Self, LoadError> {
        let config: BuiltinConfig = ModelFiles::of(&source, &HubSpec::default())?.json("config.json")?;
        let heads = config.labelled_heads().and(heads);
        Ok(Self { source, config, heads, device: device.clone(), loaded: OnceLock::new() })
    }

    /// Reads the weights if nobody has yet; whoever comes meanwhile waits.
    pub(super) fn load(&self) -> Result<&LoadedModel, LoadError> {
        let loaded = self.loaded.get_or_init(|| {
            let heads = HeadSelection::any(self.heads);
            let options = LoadOptions { heads, device: &self.device, hub: &HubSpec::default() };
            LoadedModel::load(&self.source, &options).map_err(Arc::new)
        });
        loaded.as_ref().map_err(|error| Arc::clone(error).into())
    }

    /// Describes the model; none until it is loaded.
    pub(super) fn info(&self) -> Option<&ModelInfo> {
        self.loaded.get()?.as_ref().ok().map(LoadedModel::info)
    }
}

impl ModelBackend for DeferredModel {
    fn heads(&self) -> ClassifyHeads {
        self.heads
    }

    fn labels(&self, head: ClassifyHead) -> Vec<Arc<str>> {
        self.config.labels(head)
    }

    fn threshold(&self, head: ClassifyHead) -> f32 {
        self.config.thresholds(head).usual()
    }

    fn strict_threshold(&self, head: ClassifyHead) -> Option<f32> {
        self.config.thresholds(head).strict
    }

    fn max_input_tokens(&self) -> usize {
        self.load().map_or(0, ModelBackend::max_input_tokens)
    }

    fn max_concurrent_forwards(&self) -> usize {
        self.device.max_concurrent_forwards()
    }

    fn max_batch_tokens(&self) -> usize {
        self.load().map_or(usize::MAX, ModelBackend::max_batch_tokens)
    }

    fn name(&self) -> Arc<str> {
        self.source.to_string().into()
    }

    fn languages(&self) -> Option<Vec<String>> {
        self.config.languages.clone()
    }

    fn tokenize(&self, text: &str) -> Result<TokenizedText, ModelError> {
        self.load()?.tokenize(text)
    }

    fn unknown_token(&self) -> Option<u32> {
        self.load().ok()?.unknown_token()
    }

    fn run(&self, windows: &[&[u32]], wanted: ClassifyHeads) -> Result<Vec<HeadOutputs>, ModelError> {
        self.load()?.run(windows, wanted)
    }

    fn run_pairs(&self, pairs: &[WindowPair<'_>]) -> Result<Vec<HeadOutputs>, ModelError> {
        self.load()?.run_pairs(pairs)
    }
}
