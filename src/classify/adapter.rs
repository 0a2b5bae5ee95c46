//! Adapters of PEFT: a folder with small matrices that are added to those of the model that it names, and perhaps a head.
//!
//! Knows file names and what `adapter_config.json` says; nothing of architectures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::load_error::LoadError;
use super::model_files::ModelFiles;
use super::weights::Weights;
use signalbox_policy::{HubSpec, ModelSource};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Where trainers write the names of classes that `transformers` writes for whole models only.
const LABELS: &str = "label_mapping.json";

/// The keys of the names by index there, then those of the indices by name.
const BY_INDEX: [&str; 3] = ["id_to_label", "id2label", "idx_to_label"];
const BY_NAME: [&str; 3] = ["label_to_id", "label2id", "label_to_idx"];

/// A model's files, and those of an adapter for it.
pub(super) struct AdaptedFiles {
    pub(super) base: ModelFiles,
    adapter: Option<Adapter>,
}

struct Adapter {
    files: ModelFiles,
    config: AdapterConfig,
}

#[derive(Deserialize)]
pub(super) struct AdapterConfig {
    base_model_name_or_path: Option<String>,
    revision: Option<String>,
    peft_type: String,
    task_type: Option<String>,
    lora_alpha: Option<f64>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What would change the numbers, and is not computed; each harmless where it is absent, null, false, empty or "none".
const UNKNOWN: [&str; 10] = [
    "use_dora",
    "bias",
    "fan_in_fan_out",
    "lora_bias",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
];

impl AdaptedFiles {
    /// Finds a model's files; where they are an adapter's, those of its base.
    pub(super) fn of(source: &ModelSource, hub: &HubSpec) -> Result<Self, LoadError> {
        let files = ModelFiles::of(source, hub)?;
        if !is_adapter(&files)? {
            return Ok(Self { base: files, adapter: None });
        }
        let config: AdapterConfig = files.json(CONFIG)?;
        config.check().map_err(|reason| LoadError::Unsupported { path: files.path(CONFIG), reason })?;
        let base = ModelFiles::of(&config.base(&files)?, hub)?;
        if is_adapter(&base)? {
            let reason = "its base is an adapter too".to_owned();
            return Err(LoadError::Unsupported { path: files.path(CONFIG), reason });
        }
        Ok(Self { base, adapter: Some(Adapter { files, config }) })
    }

    /// Returns the files that say what a model with this adapter is named.
    pub(super) fn named(&self) -> &ModelFiles {
        self.adapter.as_ref().map_or(&self.base, |adapter| &adapter.files)
    }

    /// Returns those with the tokenizer, which an adapter may have of its own.
    pub(super) fn tokenizer(&self) -> Result<&ModelFiles, LoadError> {
        match &self.adapter {
            Some(adapter) if adapter.files.has("tokenizer.json")? => Ok(&adapter.files),
            _ => Ok(&self.base),
        }
    }

    /// Reads `config.json` in `folder`, with what the adapter says of its task and labels in it.
    pub(super) fn config(&self, folder: &str) -> Result<Value, LoadError> {
        let mut config: Value = self.base.json(&format!("{folder}config.json"))?;
        if let (Some(adapter), Some(config)) = (&self.adapter, config.as_object_mut()) {
            adapter.describe(config)?;
        }
        Ok(config)
    }

    /// Opens the weights in `folder`.
    pub(super) fn weights(&self, folder: &str) -> Result<Weights, LoadError> {
        let mut weights = self.base.weights(folder)?;
        if let Some(Adapter { files, config }) = &self.adapter {
            let path = files.require(WEIGHTS)?;
            weights.adapt(&path, &|module, rank| config.scale(module, rank))?;
        }
        Ok(weights)
    }
}

/// Says whether a folder holds an adapter and no whole model. Of the hub nothing is asked that whole models would have to be
/// asked for in vain.
fn is_adapter(files: &ModelFiles) -> Result<bool, LoadError> {
    Ok(match files {
        ModelFiles::Builtin => false,
        ModelFiles::Folder(folder) => {
            files.has(CONFIG)? && !folder.join("model.safetensors").exists() && files.has(WEIGHTS)?
        }
        ModelFiles::Hub(_) => !files.has("config.json")? && files.has(CONFIG)?,
    })
}

impl Adapter {
    /// Puts the task and the names of the classes into the base's configuration.
    fn describe(&self, config: &mut Map<String, Value>) -> Result<(), LoadError> {
        let own: Option<Value> = self.files.json_if_any("config.json")?;
        for key in ["id2label", "label2id", "num_labels", "problem_type"] {
            if let Some(value) = own.as_ref().and_then(|own| own.get(key)) {
                config.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(labels) = self.files.json_if_any::<Map<String, Value>>(LABELS)? {
            for (keys, key) in [(BY_INDEX, "id2label"), (BY_NAME, "label2id")] {
                if let Some(names) = keys.iter().find_map(|key| labels.get(*key)) {
                    config.insert(key.to_owned(), names.clone());
                    config.remove("num_labels");
                }
            }
        }
        let task = match self.config.task_type.as_deref() {
            Some("SEQ_CLS") => Some("AdaptedForSequenceClassification"),
            Some("TOKEN_CLS") => Some("AdaptedForTokenClassification"),
            Some("FEATURE_EXTRACTION") => Some("AdaptedModel"),
            _ => None,
        };
        if let Some(task) = task {
            config.insert("architectures".to_owned(), Value::from(vec![task]));
        }
        Ok(())
    }
}

impl AdapterConfig {
    fn check(&self) -> Result<(), String> {
        if self.peft_type != "LORA" {
            return Err(format!("peft_type `{}`; LORA is known", self.peft_type));
        }
        let is_harmless = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty() || text == "none",
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        };
        let set = |key: &&&str| self.rest.get(**key).is_some_and(|value| !is_harmless(value));
        if let Some(key) = UNKNOWN.iter().find(set) {
            return Err(format!("`{key}` is set, which is not computed"));
        }
        let is_plain =
            |key: &&String| key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
        if let Some(key) = self.alpha_pattern.keys().find(|key| !is_plain(key)) {
            return Err(format!("alpha_pattern `{key}`; the names of modules are known, patterns are not"));
        }
        Ok(())
    }

    /// Finds the base: beside an adapter on disk, else on the hub. An adapter from the hub names no folder here.
    fn base(&self, files: &ModelFiles) -> Result<ModelSource, LoadError> {
        let name = self.base_model_name_or_path.as_deref().unwrap_or_default();
        let nearby = |folder: &PathBuf| Some(folder.join(Path::new(name))).filter(|path| path.is_dir());
        if let ModelFiles::Folder(folder) = files
            && let Some(path) = nearby(folder).filter(|_| !name.is_empty())
        {
            return Ok(ModelSource::Folder(path));
        }
        let is_repo =
            name.split('/').count() == 2 && name.split('/').all(|part| !part.is_empty() && part != "..");
        if !is_repo {
            let reason = format!("its base `{name}` is neither a folder beside it nor a model of the hub");
            return Err(LoadError::Unsupported { path: files.path(CONFIG), reason });
        }
        let revision = self.revision.as_deref().map_or_else(String::new, |revision| format!("@{revision}"));
        Ok(ModelSource::from(format!("hf://{name}{revision}")))
    }

    /// Returns what the product of a pair of matrices of this rank is multiplied by.
    fn scale(&self, module: &str, rank: usize) -> f32 {
        let is_of = |key: &&String| {
            module.strip_suffix(key.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        let own = self.alpha_pattern.iter().find(|(key, _)| is_of(key)).map(|(_, alpha)| *alpha);
        let alpha = own.or(self.lora_alpha).unwrap_or(8.0);
        let rank = rank as f64;
        (alpha / if self.use_rslora { rank.sqrt() } else { rank }) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> AdapterConfig {
        serde_json::from_str(&format!("{{\"peft_type\": \"LORA\", \"lora_alpha\": 16{more}}}")).unwrap()
    }

    #[test]
    fn the_scale_is_that_of_the_module() {
        let plain = config(", \"alpha_pattern\": {\"v_proj\": 2, \"layers.1.q_proj\": 4}");
        for (module, scale) in
            [("a.k_proj", 4.0), ("a.v_proj", 0.5), ("a.xv_proj", 4.0), ("m.layers.1.q_proj", 1.0)]
        {
            assert!((plain.scale(module, 4) - scale).abs() < 1e-6, "{module}");
        }
        assert!((config(", \"use_rslora\": true").scale("a", 4) - 8.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_computed_is_refused() {
        for (more, fault) in [
            (", \"use_dora\": true", "`use_dora` is set"),
            (", \"bias\": \"all\"", "`bias` is set"),
            (", \"target_parameters\": [\"a\"]", "`target_parameters` is set"),
            (", \"alpha_pattern\": {\"^v.*\": 2}", "alpha_pattern `^v.*`"),
        ] {
            assert!(config(more).check().unwrap_err().contains(fault), "{more}");
        }
        config(", \"bias\": \"none\", \"use_dora\": false, \"layer_replication\": null").check().unwrap();
        let other: AdapterConfig = serde_json::from_str("{\"peft_type\": \"IA3\"}").unwrap();
        assert!(other.check().unwrap_err().contains("peft_type `IA3`"));
    }

    #[test]
    fn an_adapter_of_the_hub_reads_no_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = ModelFiles::Folder(scratch.path().to_owned());
        std::fs::create_dir(scratch.path().join("base")).unwrap();
        let named = |name: &str| config(&format!(", \"base_model_name_or_path\": \"{name}\""));
        assert_eq!(named("o/n").base(&folder).unwrap().to_string(), "hf://o/n@main");
        let base = ModelSource::Folder(scratch.path().join("base"));
        assert_eq!(named("base").base(&folder).unwrap(), base);
        // The built-in model stands for whatever is no folder.
        for name in ["", "base", "..", "../..", "/tmp", "a/..", "a/b/c", "https://x/y"] {
            assert!(named(name).base(&ModelFiles::Builtin).is_err(), "{name}");
        }
    }
}
