//! A whole model: its tokenizer, its encoder and its heads; windows of token ids in, outputs out.
//!
//! Knows nothing of threads, queues, deadlines or how a text is cut into windows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Tensor, bail};

use super::adapter::AdaptedFiles;
use super::backend::{HeadOutputs, ModelBackend, ModelError, TokenizedText, WindowPair};
use super::builtin::BuiltinConfig;
use super::checkpoint::{self, CheckpointConfig, SentenceModules};
use super::device::ComputeDevice;
use super::encoder::Encoder;
use super::layer_builder::LayerBuilder;
use super::load_error::LoadError;
use super::model_files::ModelFiles;
use super::model_parts::{HeadSelection, HeadThresholds, LoadedHead, ModelParts};
use super::paraphrase::{MAX_QUESTION_TOKENS, ParaphraseScore, QuestionTokens};
use super::spans::BatchSpans;
use super::special_tokens::{EncoderInput, SpecialTokens};
use super::window_tokenizer::WindowTokenizer;
use super::{ClassifyHead, ClassifyHeads, ModelInfo};
use signalbox_policy::{HubSpec, ModelSource};

pub(super) struct LoadOptions<'a> {
    pub(super) heads: HeadSelection,
    pub(super) device: &'a ComputeDevice,
    pub(super) hub: &'a HubSpec,
}

pub(super) struct LoadedModel {
    tokenizer: WindowTokenizer,
    encoder: Encoder,
    heads: Vec<LoadedHead>,
    max_input_tokens: usize,
    identity: EncoderIdentity,
    device: ComputeDevice,
    languages: Option<Vec<String>>,
    info: ModelInfo,
}

/// Equal for models that compute the same states for the same texts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EncoderIdentity {
    weights_digest: u128,
    config_digest: u128,
    tokenizer_digest: u128,
    special_tokens: SpecialTokens,
    max_input_tokens: usize,
}

/// Either format of `config.json`.
enum ModelConfig {
    Builtin(Box<BuiltinConfig>),
    Checkpoint(Box<CheckpointConfig>),
}

/// Where the built-in format has what compares questions, so that the rest stays as it is when that changes.
const PARAPHRASE: &str = "paraphrase.safetensors";

/// How many bytes the states of one forward may take on a device, beside the weights, attention's scores and its masks.
const MAX_STATE_BYTES: usize = 1 << 30;

impl LoadedModel {
    /// Loads a model from its files, downloading those that are on the hub.
    pub(super) fn load(source: &ModelSource, options: &LoadOptions<'_>) -> Result<Self, LoadError> {
        let began = Instant::now();
        let assigned = options.heads.assigned;
        let adapted = AdaptedFiles::of(source, options.hub)?;
        let files = &adapted.base;
        let modules: Option<SentenceModules> = files.json_if_any("modules.json")?;
        let folder = modules.as_ref().map_or_else(String::new, SentenceModules::encoder_folder);
        let config = ModelConfig::read(&adapted, &folder)?;
        if assigned == Some(ClassifyHead::Hallucination) {
            config.check_detector(adapted.named(), source)?;
        }
        let mut tokenizer = WindowTokenizer::read(adapted.tokenizer()?, &folder, assigned)?;
        if let Some(prompt) = modules.as_ref().and_then(|_| SentenceModules::prompt(files).transpose()) {
            tokenizer
                .put_before(prompt?)
                .map_err(|source| LoadError::Tokenizer { path: files.path("tokenizer.json"), source })?;
        }
        if let Some(end) = config.unread_end().filter(|_| assigned != Some(ClassifyHead::Embedding)) {
            tokenizer.special_tokens.drop_end(end);
        }
        let weights = adapted.weights(&folder)?;
        let builder = LayerBuilder::new(&weights, options.device);
        let languages = config.languages();
        let parts = match config {
            ModelConfig::Builtin(config) => {
                let own = files.weights_if_any(PARAPHRASE)?;
                let paraphrase = own.as_ref().map(|weights| LayerBuilder::new(weights, options.device));
                config.load(
                    &files.path("config.json"),
                    &builder,
                    paraphrase.as_ref(),
                    options.heads.allowed,
                )?
            }
            ModelConfig::Checkpoint(config) => {
                config.load(files, modules.as_ref(), &builder, options.heads)?
            }
        };
        let trained = checkpoint::max_sequence_length(files, &folder)?.unwrap_or(usize::MAX);
        let max_tokens = parts.encoder.positions().min(trained);
        let info = ModelInfo {
            source: source.to_string(),
            family: parts.family,
            heads: kinds(&parts.heads),
            labels: named_labels(&parts.heads),
            parameters: weights.parameters(),
            bytes: weights.bytes() * options.device.dtype().size_in_bytes() / 4,
            max_tokens,
            width: parts.encoder.width(),
            device: options.device.name(),
            dtype: options.device.dtype().as_str(),
            load_time: Duration::ZERO,
        };
        let mut model = Self { languages, ..Self::assemble(tokenizer, parts, options.device.clone(), info) };
        model.check_assigned(source, assigned)?;
        if model.max_input_tokens == 0 {
            let reason = format!("a text may have {max_tokens} tokens, special ones included");
            return Err(LoadError::Unsupported { path: files.path("config.json"), reason });
        }
        model.warm_up()?;
        model.info.load_time = began.elapsed();
        Ok(model)
    }

    fn assemble(
        tokenizer: WindowTokenizer,
        parts: ModelParts,
        device: ComputeDevice,
        info: ModelInfo,
    ) -> Self {
        let special_tokens = tokenizer.special_tokens.clone();
        let max_input_tokens = info.max_tokens.saturating_sub(special_tokens.len());
        let identity = EncoderIdentity {
            weights_digest: parts.weights_digest,
            config_digest: parts.config_digest,
            tokenizer_digest: tokenizer.digest,
            special_tokens,
            max_input_tokens,
        };
        let ModelParts { encoder, heads, .. } = parts;
        Self { tokenizer, encoder, heads, max_input_tokens, identity, device, languages: None, info }
    }

    /// Joins models whose encoders and tokenizers are equal, so that one forward serves all of their heads.
    pub(super) fn share_encoders(models: Vec<Self>) -> Vec<Self> {
        let mut shared: Vec<Self> = Vec::new();
        for model in models {
            match shared.iter_mut().find(|other| other.identity == model.identity) {
                Some(other) => other.adopt_heads(model),
                None => shared.push(model),
            }
        }
        shared
    }

    fn adopt_heads(&mut self, other: Self) {
        self.info.source = format!("{}, {}", self.info.source, other.info.source);
        self.info.load_time += other.info.load_time;
        self.heads.extend(other.heads);
        self.info.heads = kinds(&self.heads);
        self.info.labels = named_labels(&self.heads);
    }

    fn check_assigned(&self, source: &ModelSource, assigned: Option<ClassifyHead>) -> Result<(), LoadError> {
        match assigned {
            Some(kind) if self.head(kind).is_none() => Err(LoadError::Misplaced {
                model: source.to_string(),
                head: kind.as_str(),
                reason: "it has no head for that",
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn head(&self, kind: ClassifyHead) -> Option<&LoadedHead> {
        self.heads.iter().find(|head| head.kind == kind)
    }

    /// Puts the special tokens around windows.
    pub(super) fn window_input(&self, windows: &[&[u32]]) -> candle_core::Result<EncoderInput> {
        self.tokenizer.special_tokens.around_windows(windows, self.max_input_tokens)
    }

    /// Puts the special tokens around pairs.
    pub(super) fn pair_input(&self, pairs: &[WindowPair<'_>]) -> candle_core::Result<EncoderInput> {
        self.tokenizer.special_tokens.around_pairs(pairs, self.max_input_tokens)
    }

    /// Computes two short texts, so that layers that do not fit together and a device that can't are found out at load
    /// time, and what a device compiles and allocates once is there before the first request.
    fn warm_up(&self) -> Result<(), LoadError> {
        if let ComputeDevice::Tensors(engine) = &self.device {
            // The weights were copied on this thread's stream, and the other threads compute on theirs.
            engine.device.synchronize()?;
        }
        let texts: [&[u32]; 2] = [&[0], &[0, 0]];
        let pairs = texts.map(|text| WindowPair { first: &texts[0][..1], second: text });
        let is_detector = self.heads().hallucination;
        // As long as the model reads.
        let count = if is_detector { self.max_input_tokens.saturating_sub(1) } else { self.max_input_tokens };
        let count = count.min(texts.len());
        let input =
            if is_detector { self.pair_input(&pairs[..count]) } else { self.window_input(&texts[..count]) };
        self.forward(&input?, self.heads())?;
        Ok(())
    }

    fn forward(&self, input: &EncoderInput, wanted: ClassifyHeads) -> candle_core::Result<Vec<HeadOutputs>> {
        let mut outputs = vec![HeadOutputs::default(); input.judged.len()];
        let heads: Vec<&LoadedHead> = self.heads.iter().filter(|head| wanted.has(head.kind)).collect();
        if outputs.is_empty() || heads.is_empty() {
            return Ok(outputs);
        }
        let keep: Vec<usize> = heads.iter().flat_map(|head| &head.network.states).copied().collect();
        let _device = self.device.acquire();
        let states = self.encoder.forward(input, &keep)?;
        // Reading a result back waits for the device: every head is under way before the first is read.
        let rows: Vec<(Option<BatchSpans>, Tensor)> = heads
            .iter()
            .map(|head| {
                let spans = head.network.spans(input);
                let rows = head.network.forward(&states, &input.starts, spans.as_ref())?;
                Ok((spans, rows))
            })
            .collect::<candle_core::Result<_>>()?;
        for (head, (spans, rows)) in heads.into_iter().zip(rows) {
            let rows = rows.to_vec2::<f32>()?;
            if rows.iter().flatten().any(|value| !value.is_finite()) {
                bail!("{}: a result is not a number", head.kind.as_str());
            }
            for (at, output) in outputs.iter_mut().enumerate() {
                let tokens = || rows[input.judged[at].clone()].iter();
                match head.kind {
                    ClassifyHead::Domain => output.domain = Some(rows[at].clone()),
                    ClassifyHead::Jailbreak => {
                        output.jailbreak = Some(head.worst(&rows, input, spans.as_ref(), at));
                    }
                    ClassifyHead::Embedding => output.embedding = Some(rows[at].clone()),
                    ClassifyHead::Pii => output.pii = Some(tokens().map(|row| best(row)).collect()),
                    ClassifyHead::Paraphrase => {
                        let ids = &input.ids[input.judged[at].clone()];
                        let ids = &ids[..ids.len().min(MAX_QUESTION_TOKENS)];
                        let rows = tokens().take(ids.len()).map(Vec::as_slice);
                        output.question = head
                            .paraphrase
                            .as_ref()
                            .map(|network| Arc::new(network.layout.question(ids, rows)));
                    }
                    ClassifyHead::Hallucination => {
                        output.hallucination = Some(tokens().map(|row| head.risk(row)).collect());
                    }
                }
            }
        }
        Ok(outputs)
    }
}

impl ModelBackend for LoadedModel {
    fn heads(&self) -> ClassifyHeads {
        self.info.heads
    }

    fn labels(&self, kind: ClassifyHead) -> Vec<Arc<str>> {
        self.head(kind).map(|head| head.labels.clone()).unwrap_or_default()
    }

    fn threshold(&self, kind: ClassifyHead) -> f32 {
        self.head(kind).map_or_else(HeadThresholds::default, |head| head.thresholds).usual()
    }

    fn strict_threshold(&self, kind: ClassifyHead) -> Option<f32> {
        self.head(kind)?.thresholds.strict
    }

    fn max_input_tokens(&self) -> usize {
        self.max_input_tokens
    }

    fn max_concurrent_forwards(&self) -> usize {
        self.device.max_concurrent_forwards()
    }

    fn max_batch_tokens(&self) -> usize {
        match &self.device {
            ComputeDevice::Kernels(_) => usize::MAX,
            ComputeDevice::Tensors(engine) => {
                let kept: BTreeSet<usize> =
                    self.heads.iter().flat_map(|head| head.network.states.iter().copied()).collect();
                let numbers = self.encoder.numbers_a_token(kept.len());
                MAX_STATE_BYTES / (numbers * engine.dtype.size_in_bytes())
            }
        }
    }

    fn languages(&self) -> Option<Vec<String>> {
        self.languages.clone()
    }

    fn name(&self) -> Arc<str> {
        self.info.source.as_str().into()
    }

    fn tokenize(&self, text: &str) -> Result<TokenizedText, ModelError> {
        self.tokenizer.tokenize(text)
    }

    fn unknown_token(&self) -> Option<u32> {
        self.tokenizer.unknown
    }

    fn run(&self, windows: &[&[u32]], wanted: ClassifyHeads) -> Result<Vec<HeadOutputs>, ModelError> {
        Ok(self.forward(&self.window_input(windows)?, wanted)?)
    }

    fn compare(&self, one: &QuestionTokens, other: &QuestionTokens) -> Option<ParaphraseScore> {
        self.head(ClassifyHead::Paraphrase)?.paraphrase.as_ref()?.judge(one, other)
    }

    fn run_pairs(&self, pairs: &[WindowPair<'_>]) -> Result<Vec<HeadOutputs>, ModelError> {
        Ok(self.forward(&self.pair_input(pairs)?, ClassifyHeads::HALLUCINATION)?)
    }
}

impl ModelConfig {
    fn read(files: &AdaptedFiles, folder: &str) -> Result<Self, LoadError> {
        let value = files.config(folder)?;
        let name = format!("{folder}config.json");
        let wrong = |source| LoadError::Config { path: files.base.path(&name), source };
        if value.get("trunk").is_some() {
            return serde_json::from_value(value).map(Box::new).map(Self::Builtin).map_err(wrong);
        }
        serde_json::from_value(value).map(Box::new).map(Self::Checkpoint).map_err(wrong)
    }

    fn languages(&self) -> Option<Vec<String>> {
        match self {
            Self::Builtin(config) => config.languages.clone(),
            Self::Checkpoint(_) => None,
        }
    }

    fn unread_end(&self) -> Option<u32> {
        match self {
            Self::Checkpoint(config) => config.unread_end(),
            Self::Builtin(_) => None,
        }
    }

    fn check_detector(&self, files: &ModelFiles, source: &ModelSource) -> Result<(), LoadError> {
        match self {
            Self::Checkpoint(config) => config.check_detector(files),
            Self::Builtin(_) => Err(LoadError::Misplaced {
                model: source.to_string(),
                head: ClassifyHead::Hallucination.as_str(),
                reason: "it has no head for that",
            }),
        }
    }
}

/// Reads a model's domains, without its weights.
pub(super) fn domain_labels(
    source: &ModelSource,
    hub: &HubSpec,
    assigned: Option<ClassifyHead>,
) -> Result<Vec<String>, LoadError> {
    let files = AdaptedFiles::of(source, hub)?;
    let modules: Option<SentenceModules> = files.base.json_if_any("modules.json")?;
    let folder = modules.as_ref().map_or_else(String::new, SentenceModules::encoder_folder);
    Ok(match ModelConfig::read(&files, &folder)? {
        ModelConfig::Builtin(config) => {
            config.labels(ClassifyHead::Domain).iter().map(ToString::to_string).collect()
        }
        ModelConfig::Checkpoint(config) => config.domains(assigned),
    })
}

/// Says whether a model looks as if it could judge groundedness, without its weights.
pub(super) fn check_detector(source: &ModelSource, hub: &HubSpec) -> Result<(), LoadError> {
    let files = AdaptedFiles::of(source, hub)?;
    ModelConfig::read(&files, "")?.check_detector(files.named(), source)?;
    WindowTokenizer::read(files.tokenizer()?, "", Some(ClassifyHead::Hallucination)).map(drop)
}

fn kinds(heads: &[LoadedHead]) -> ClassifyHeads {
    heads.iter().map(|head| head.kind).collect()
}

fn named_labels(heads: &[LoadedHead]) -> Vec<(ClassifyHead, Vec<String>)> {
    let labels = |head: &LoadedHead| head.labels.iter().map(ToString::to_string).collect::<Vec<_>>();
    let with_labels = heads.iter().filter(|head| !head.labels.is_empty());
    with_labels.map(|head| (head.kind, labels(head))).collect()
}

/// Returns the index and value of the largest probability.
fn best(row: &[f32]) -> (u16, f32) {
    let largest = row.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    largest.map_or((0, 0.0), |(at, probability)| (u16::try_from(at).unwrap_or(u16::MAX), probability))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::{DType, Device};
    use serde::Deserialize;

    use super::*;
    use crate::device::{RowPrecision, TensorEngine};
    use crate::ops::{Pooling, pool};
    use signalbox_policy::{AttackThreshold, ClassifierSpec, OperatingPoint, Thresholds};

    #[derive(Deserialize)]
    struct Golden {
        text: String,
        /// Without the special tokens, cut to the window that was judged.
        ids: Vec<u32>,
        middle: Vec<f32>,
        last: Vec<f32>,
        probabilities: Vec<f32>,
        jailbreak: f32,
        /// The tokens that score that.
        worst: (usize, usize),
        #[serde(default)]
        pii: Vec<(u16, f32)>,
        embedding: Option<Vec<f32>>,
    }

    fn load(source: &ModelSource) -> Result<LoadedModel, LoadError> {
        load_on(source, &ComputeDevice::Kernels(RowPrecision::F32))
    }

    fn load_on(source: &ModelSource, device: &ComputeDevice) -> Result<LoadedModel, LoadError> {
        let hub = HubSpec::default();
        LoadedModel::load(
            source,
            &LoadOptions { heads: HeadSelection::any(ClassifyHeads::ALL), device, hub: &hub },
        )
    }

    fn golden() -> Vec<Golden> {
        serde_json::from_str(include_str!("../../tests/golden/classify.json")).unwrap()
    }

    fn folder(path: &Path) -> ModelSource {
        ModelSource::Folder(path.to_owned())
    }

    fn domain(model: &LoadedModel, text: &str) -> Vec<f32> {
        let ids = model.tokenize(text).unwrap().ids;
        let window = &ids[..ids.len().min(model.max_input_tokens())];
        model.run(&[window], ClassifyHeads::DOMAIN).unwrap().remove(0).domain.unwrap()
    }

    fn assert_near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-3, "{got} against {want}");
        }
    }

    #[test]
    fn states_and_probabilities_are_those_of_training() {
        assert_golden(&load(&ModelSource::Builtin).unwrap(), golden());
    }

    #[test]
    fn those_of_the_multilingual_model_are_too() {
        let golden = serde_json::from_str(include_str!("../../tests/golden/multilingual.json")).unwrap();
        assert_golden(&load(&ModelSource::Multilingual).unwrap(), golden);
    }

    #[test]
    fn the_built_in_embedder_has_another_name_as_soon_as_its_weights_are_others() {
        let identity = load(&ModelSource::Builtin).unwrap().identity;
        let digests = [identity.weights_digest, identity.tokenizer_digest];
        // Thresholds of likeness and stored vectors are of one name's vectors: new digests go with a new name.
        assert_eq!(signalbox_policy::BUILTIN_EMBEDDER, "builtin-1");
        assert_eq!(
            digests,
            [0xcf37_ebc7_6998_0170_582f_6a69_da8d_7637, 0x1894_1b4e_a71c_2ea1_9055_622c_1b8b_9cbc]
        );
    }

    #[test]
    fn both_models_inside_this_binary_have_the_same_domains() {
        let hub = HubSpec::default();
        let domains = |source| domain_labels(&source, &hub, None).unwrap();
        assert_eq!(domains(ModelSource::Builtin), domains(ModelSource::Multilingual));
    }

    fn assert_golden(model: &LoadedModel, cases: Vec<Golden>) {
        let layers = model.encoder.layers();
        for case in cases {
            assert_eq!(model.tokenize(&case.text).unwrap().ids[..case.ids.len()], case.ids, "{}", case.text);
            let input = model.window_input(&[&case.ids]).unwrap();
            let states = model.encoder.forward(&input, &[layers / 2, layers]).unwrap();
            for (state, want) in [(layers / 2, &case.middle), (layers, &case.last)] {
                let mean = pool(&[states.get(state).unwrap()], &input.starts, Pooling::Mean).unwrap();
                assert_near(&mean.to_vec2().unwrap()[0], want);
            }
            let answer = model.run(&[&case.ids], ClassifyHeads::ALL).unwrap().remove(0);
            assert_near(&answer.domain.unwrap(), &case.probabilities);
            let worst = answer.jailbreak.unwrap();
            assert_near(&[worst.score], &[case.jailbreak]);
            assert_eq!((worst.tokens.start, worst.tokens.end), case.worst, "{}", case.text);
            assert_eq!(answer.embedding.is_some(), case.embedding.is_some());
            if let (Some(vector), Some(want)) = (answer.embedding, case.embedding) {
                let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                assert_near(&vector.iter().map(|x| x / length).collect::<Vec<_>>(), &want);
            }
            for ((label, p), (wanted, wanted_p)) in answer.pii.unwrap_or_default().into_iter().zip(case.pii) {
                assert_near(&[p], &[wanted_p]);
                // Labels may change places where they are equally likely.
                assert!(label == wanted || p < 0.51, "{label} against {wanted}");
            }
        }
    }

    /// The built-in model's files with another jailbreak head in its configuration.
    fn with_head(change: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
        with_heads(|heads| change(&mut heads["jailbreak"]))
    }

    fn with_heads(change: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/builtin");
        for name in ["tokenizer.json", "model.safetensors", PARAPHRASE] {
            std::fs::copy(builtin.join(name), scratch.path().join(name)).unwrap();
        }
        let config = std::fs::read(builtin.join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        change(&mut config["heads"]);
        std::fs::write(scratch.path().join("config.json"), config.to_string()).unwrap();
        scratch
    }

    #[test]
    fn a_model_without_spans_and_points_judges_windows_as_a_whole() {
        let scratch = with_head(|head| {
            let head = head.as_object_mut().unwrap();
            head.remove("spans").unwrap();
            head.remove("strict_threshold").unwrap();
        });
        let source = folder(scratch.path());
        let (plain, builtin) = (load(&source).unwrap(), load(&ModelSource::Builtin).unwrap());
        let ids = golden().pop().unwrap().ids;
        let guard = ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE };
        let worst = |model: &LoadedModel| model.run(&[&ids], guard).unwrap().remove(0).jailbreak.unwrap();
        assert_eq!(worst(&plain).tokens, 0..ids.len());
        assert!(worst(&plain).score < worst(&builtin).score && worst(&builtin).tokens.len() < ids.len());
        let head = ClassifyHead::Jailbreak;
        assert!(builtin.strict_threshold(head).unwrap() < builtin.threshold(head));
        assert_eq!((plain.threshold(head), plain.strict_threshold(head)), (builtin.threshold(head), None));
        let strict = Some(AttackThreshold::Point(OperatingPoint::Strict));
        let thresholds = Thresholds { jailbreak: strict, ..Thresholds::default() };
        let spec = |model| ClassifierSpec { model, thresholds, ..ClassifierSpec::default() };
        let error = crate::Classifier::load(&spec(source)).unwrap_err().to_string();
        assert!(error.contains("it has no `strict` threshold; give a number"), "{error}");
        assert!(crate::Classifier::load(&spec(ModelSource::Builtin)).is_ok());
    }

    #[test]
    fn spans_that_cannot_be_judged_are_refused() {
        let odd = with_head(|head| head["spans"]["sizes"] = serde_json::json!([32, 40]));
        let first = with_head(|head| head["pooling"] = "cls".into());
        for (scratch, fault) in [(odd, "no multiple of 32"), (first, "means and maxima alone")] {
            let error = load(&folder(scratch.path())).err().unwrap().to_string();
            assert!(error.contains("heads.jailbreak: ") && error.contains(fault), "{error}");
        }
    }

    #[test]
    fn sizes_past_any_memory_are_refused_and_do_not_overflow() {
        for (size, fault) in [
            ("width", "heads.paraphrase: more numbers of a state than it has"),
            ("hidden", "paraphrase.0.hidden.weight: "),
            ("joined", "paraphrase.0.join.weight: "),
        ] {
            let scratch = with_heads(|heads| heads["paraphrase"][size] = (1_u64 << 62).into());
            let spec = ClassifierSpec { model: folder(scratch.path()), ..ClassifierSpec::default() };
            let error = crate::Classifier::load(&spec).unwrap_err().to_string();
            assert!(error.contains(fault), "{size}: {error}");
        }
    }

    #[test]
    fn less_precision_gives_the_same_labels() {
        let golden = golden();
        let windows: Vec<&[u32]> = golden.iter().map(|case| case.ids.as_slice()).collect();
        let tensors = |dtype| ComputeDevice::Tensors(TensorEngine::new(Device::Cpu, dtype));
        for (device, near, alike) in [
            (tensors(DType::F32), 1e-3, 0.999),
            (tensors(DType::F16), 5e-3, 0.999),
            (tensors(DType::BF16), 5e-2, 0.998),
            (ComputeDevice::Kernels(RowPrecision::Int8), 0.1, 0.998),
        ] {
            let model = load_on(&ModelSource::Builtin, &device).unwrap();
            let answers = model.run(&windows, ClassifyHeads::ALL).unwrap();
            for (case, answer) in golden.iter().zip(answers) {
                let domain = answer.domain.unwrap();
                let off = domain.iter().zip(&case.probabilities).map(|(got, want)| (got - want).abs());
                let off = off.fold((answer.jailbreak.unwrap().score - case.jailbreak).abs(), f32::max);
                assert!(off < near, "{device:?}: {}: off by {off}", case.text);
                let (wanted, likely) = best(&case.probabilities);
                assert!(best(&domain).0 == wanted || likely < 0.3, "{device:?}: {}", case.text);
                for ((label, p), (wanted, _)) in answer.pii.unwrap().into_iter().zip(&case.pii) {
                    assert!(label == *wanted || p < 0.6, "{device:?}: {label} against {wanted}");
                }
                let vector = answer.embedding.unwrap();
                let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                let cosine = vector
                    .iter()
                    .zip(case.embedding.iter().flatten())
                    .map(|(a, b)| a * b / length)
                    .sum::<f32>();
                assert!(cosine > alike, "{device:?}: {}: cosine {cosine}", case.text);
            }
        }
    }

    #[test]
    fn a_device_takes_as_many_tokens_as_its_share_of_memory_holds() {
        let most = |dtype| {
            let engine = TensorEngine::new(Device::Cpu, dtype);
            load_on(&ModelSource::Builtin, &ComputeDevice::Tensors(engine)).unwrap().max_batch_tokens()
        };
        let (single, half) = (most(DType::F32), most(DType::BF16));
        assert!(single >= ClassifierSpec::default().batch_tokens, "{single}");
        assert_eq!(half / 2, single);
        // Six states of 384 numbers are kept, and at most eight times as many made of them.
        assert!(half * 2 * 9 * 6 * 384 <= MAX_STATE_BYTES);
        assert_eq!(load(&ModelSource::Builtin).unwrap().max_batch_tokens(), usize::MAX);
    }

    #[test]
    fn windows_in_one_batch_get_the_outputs_that_they_get_alone() {
        let model = load(&ModelSource::Builtin).unwrap();
        let texts = ["What is 2+2?", "", "Who wrote the constitution, and why? ".repeat(20).leak(), "a"];
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| model.tokenize(text).unwrap().ids).collect();
        let windows: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let together = model.run(&windows, ClassifyHeads::DOMAIN).unwrap();
        for (window, together) in windows.iter().zip(together) {
            let alone = model.run(&[window], ClassifyHeads::DOMAIN).unwrap().remove(0);
            for (a, b) in alone.domain.unwrap().iter().zip(together.domain.unwrap()) {
                assert!((a - b).abs() < 1e-5, "{a} against {b}");
            }
        }
        assert!(model.run(&[], ClassifyHeads::ALL).unwrap().is_empty());
        let long = vec![2000; model.max_input_tokens() + 1];
        assert!(model.run(&[&long], ClassifyHeads::DOMAIN).is_err());
    }

    #[test]
    fn tokens_span_whole_characters() {
        let model = load(&ModelSource::Builtin).unwrap();
        let text = "Ünïcödé 🦀 né à Zürich";
        let tokens = model.tokenize(text).unwrap();
        assert_eq!(tokens.ids.len(), tokens.bytes.len());
        assert!(tokens.bytes.iter().all(|span| text.get(span.clone()).is_some()));
        assert_eq!(&text[tokens.bytes.last().unwrap().clone()], "Zürich");
    }

    #[test]
    fn equal_encoders_are_shared() {
        let here = folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/builtin"));
        let models = vec![load(&ModelSource::Builtin).unwrap(), load(&here).unwrap()];
        let text = "the force on a charge in a magnetic field";
        assert_eq!(domain(&models[0], text), domain(&models[1], text));
        let shared = LoadedModel::share_encoders(models);
        assert_eq!(shared.len(), 1);
        assert!(shared[0].info().source.contains("builtin, /"));
    }

    #[test]
    fn a_folder_without_a_model_is_named_in_the_error() {
        let error = load(&folder(Path::new("/nowhere"))).err().unwrap();
        assert_eq!(error.to_string().split(": ").next(), Some("cannot read /nowhere/config.json"));
    }

    #[test]
    fn a_broken_model_file_is_an_error_that_names_it_and_the_tensor() {
        let scratch = tempfile::tempdir().unwrap();
        let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/builtin");
        let [config, tokenizer, weights] = ["config.json", "tokenizer.json", "model.safetensors"]
            .map(|name| std::fs::read(builtin.join(name)).unwrap());
        let fails = |config: &[u8], tokenizer: &[u8], weights: &[u8], wanted: &str| {
            std::fs::write(scratch.path().join("config.json"), config).unwrap();
            std::fs::write(scratch.path().join("tokenizer.json"), tokenizer).unwrap();
            std::fs::write(scratch.path().join("model.safetensors"), weights).unwrap();
            let error = load(&folder(scratch.path())).err().unwrap().to_string();
            let at = format!("{}/", scratch.path().display());
            let error = error.strip_prefix(&at).unwrap_or(&error);
            assert!(error.starts_with(wanted), "{error}");
        };
        fails(&config, &tokenizer, &weights[..weights.len() / 2], "model.safetensors: ");
        fails(&config, &tokenizer, &weights[..4], "model.safetensors: not a safetensors file");
        fails(&config, &tokenizer, &[255; 64], "model.safetensors: not a safetensors file");
        fails(&config, b"{}", &weights, "tokenizer.json: ");
        fails(b"{}", &tokenizer, &weights, "config.json: missing field `model_type`");
        fails(b"{\"model_type\": \"gpt2\"}", &tokenizer, &weights, "config.json: model_type `gpt2`");
        let config = String::from_utf8(config).unwrap();
        let narrower = config.replace("\"width\": 384", "\"width\": 360");
        let wanted = "model.safetensors: embeddings.word_embeddings.weight: ";
        fails(narrower.as_bytes(), &tokenizer, &weights, wanted);
        let deeper = config.replace("\"layers\": 6", "\"layers\": 7");
        let wanted = "model.safetensors: no tensor encoder.layer.6.";
        fails(deeper.as_bytes(), &tokenizer, &weights, wanted);
    }
}
