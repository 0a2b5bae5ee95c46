//! Folders of `sentence-transformers`: the modules that follow the encoder, and how its states become one vector.
//!
//! Knows nothing of encoders' insides.

use serde::Deserialize;

use crate::device::ComputeDevice;
use crate::encoder::Encoder;
use crate::heads::{DenseLayer, HeadInput, HeadNetwork, OutputActivation};
use crate::layer_builder::LayerBuilder;
use crate::load_error::LoadError;
use crate::model_files::ModelFiles;
use crate::model_parts::LoadedHead;
use crate::ops::{Activation, Pooling};

/// `modules.json`.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct SentenceModules(Vec<Module>);

#[derive(Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

/// `config.json` of a pooling: `pooling_mode` with one way or several, or a key for each way.
#[derive(Deserialize)]
#[serde(transparent)]
struct PoolingModuleConfig(serde_json::Map<String, serde_json::Value>);

/// The ways of pooling in the order in which several are concatenated, each with its older key.
const POOLINGS: [(&str, &str, Pooling); 6] = [
    ("cls", "pooling_mode_cls_token", Pooling::First),
    ("max", "pooling_mode_max_tokens", Pooling::Max),
    ("mean", "pooling_mode_mean_tokens", Pooling::Mean),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrt),
    ("weightedmean", "pooling_mode_weightedmean_tokens", Pooling::Weighted),
    ("lasttoken", "pooling_mode_lasttoken", Pooling::Last),
];

#[derive(Deserialize)]
struct DenseModuleConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default)]
    activation_function: Option<String>,
}

/// `config_sentence_transformers.json`.
#[derive(Deserialize)]
struct PromptConfig {
    #[serde(default)]
    prompts: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TransformerModuleConfig {
    #[serde(default)]
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    model_max_length: Option<f64>,
}

impl SentenceModules {
    /// Returns the folder of the encoder, empty or with a slash at its end.
    pub(crate) fn encoder_folder(&self) -> String {
        self.0.first().map_or_else(String::new, Module::folder)
    }
}

impl SentenceModules {
    /// Returns what the model was trained to see before each question, if anything: an instruction, or `query: `.
    pub(crate) fn prompt(files: &ModelFiles) -> Result<Option<String>, LoadError> {
        let config: Option<PromptConfig> = files.json_if_any("config_sentence_transformers.json")?;
        let prompts = config.map(|config| config.prompts).unwrap_or_default();
        Ok(prompts.get("query").filter(|prompt| !prompt.is_empty()).cloned())
    }
}

impl Module {
    fn folder(&self) -> String {
        match self.path.trim_end_matches('/') {
            "" => String::new(),
            path => format!("{path}/"),
        }
    }

    fn kind(&self) -> &str {
        self.r#type.rsplit('.').next().unwrap_or_default()
    }
}

/// Reads how states become an embedding; without modules it is the mean over the tokens.
pub(super) fn embedding(
    files: &ModelFiles,
    modules: Option<&SentenceModules>,
    encoder: &Encoder,
    device: &ComputeDevice,
) -> Result<LoadedHead, LoadError> {
    let mut poolings = vec![Pooling::Mean];
    let mut layers = Vec::new();
    for module in modules.map_or(&[][..], |modules| &modules.0) {
        let folder = module.folder();
        let name = format!("{folder}config.json");
        match module.kind() {
            "Pooling" => poolings = files.json::<PoolingModuleConfig>(&name)?.poolings(files, &name)?,
            "Dense" => {
                let config: DenseModuleConfig = files.json(&name)?;
                let weights = files.weights(&folder)?;
                let linear = LayerBuilder::new(&weights, device).linear(
                    "linear",
                    config.in_features,
                    config.out_features,
                )?;
                let activation = config.activation(files, &name)?;
                layers.push(DenseLayer { linear, activation, norm: None });
            }
            // The mean of all windows' vectors is normalised, not each of them.
            "Transformer" | "Normalize" | "Dropout" => {}
            other => {
                let reason = format!("module `{other}`; Transformer, Pooling, Dense and Normalize are known");
                return Err(LoadError::Unsupported { path: files.path("modules.json"), reason });
            }
        }
    }
    Ok(LoadedHead::embedding(HeadNetwork {
        states: vec![encoder.layers()],
        input: HeadInput::Text(poolings),
        layers,
        output: OutputActivation::None,
    }))
}

/// Returns how many tokens the model was trained on, which may be fewer than it has positions; none where no file says it.
pub(crate) fn max_sequence_length(files: &ModelFiles, folder: &str) -> Result<Option<usize>, LoadError> {
    let own: Option<TransformerModuleConfig> =
        files.json_if_any(&format!("{folder}sentence_bert_config.json"))?;
    if let Some(longest) = own.and_then(|config| config.max_seq_length) {
        return Ok(Some(longest));
    }
    let tokenizer: Option<TokenizerConfig> = files.json_if_any(&format!("{folder}tokenizer_config.json"))?;
    // Tokenizers without a limit write 1e30.
    let longest = tokenizer.and_then(|config| config.model_max_length).filter(|longest| *longest < 1e9);
    Ok(longest.map(|longest| longest as usize))
}

impl PoolingModuleConfig {
    fn poolings(self, files: &ModelFiles, name: &str) -> Result<Vec<Pooling>, LoadError> {
        let unsupported = |reason: String| LoadError::Unsupported { path: files.path(name), reason };
        let named = |mode: &serde_json::Value| {
            let mode = mode.as_str().unwrap_or_default();
            let known = POOLINGS.iter().find(|(name, ..)| *name == mode);
            known.map(|(.., pooling)| *pooling).ok_or_else(|| unsupported(format!("pooling `{mode}`")))
        };
        let poolings: Vec<Pooling> = match self.0.get("pooling_mode") {
            Some(serde_json::Value::Array(modes)) => modes.iter().map(named).collect::<Result<_, _>>()?,
            Some(mode) => vec![named(mode)?],
            None => {
                let is_on = |key: &str| self.0.get(key).and_then(serde_json::Value::as_bool).unwrap_or(false);
                POOLINGS.iter().filter(|(_, key, _)| is_on(key)).map(|(.., pooling)| *pooling).collect()
            }
        };
        if poolings.is_empty() {
            return Err(unsupported("no pooling is on".to_owned()));
        }
        Ok(poolings)
    }
}

impl DenseModuleConfig {
    fn activation(&self, files: &ModelFiles, name: &str) -> Result<Activation, LoadError> {
        let whole = self.activation_function.as_deref().unwrap_or("torch.nn.modules.activation.Tanh");
        match whole.rsplit('.').next().unwrap_or_default() {
            "Identity" => Ok(Activation::Identity),
            "Tanh" => Ok(Activation::Tanh),
            "ReLU" => Ok(Activation::Relu),
            "GELU" => Ok(Activation::Gelu),
            "Sigmoid" => Ok(Activation::Sigmoid),
            "SiLU" => Ok(Activation::Silu),
            other => Err(LoadError::Unsupported {
                path: files.path(name),
                reason: format!("activation `{other}`"),
            }),
        }
    }
}
