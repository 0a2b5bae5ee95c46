//! Where the files of a model are: inside this binary, in a folder, or on the hub, from which each is downloaded when it
//! is first read.
//!
//! Knows file names, and nothing of what is in the files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::hub::RepoSnapshot;
use super::load_error::LoadError;
use super::weights::{Weights, read_bounded, read_error, shards};
use signalbox_policy::{HubSpec, ModelSource};

/// Weights by falling preference, each with the index that stands in for it where they are sharded.
const WEIGHTS: [(&str, &str); 2] = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];

/// The longest file that is read whole: vocabularies of a quarter million tokens take half of that.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The longest configuration.
const MAX_CONFIG_BYTES: usize = 8 << 20;

/// The files of a model inside this binary, by their names.
type BuiltinFiles = &'static [(&'static str, &'static [u8])];

static ENGLISH: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../models/builtin/config.json")),
    ("tokenizer.json", include_bytes!("../../models/builtin/tokenizer.json")),
    ("model.safetensors", include_bytes!("../../models/builtin/model.safetensors")),
    ("paraphrase.safetensors", include_bytes!("../../models/builtin/paraphrase.safetensors")),
];

static MULTILINGUAL: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../../models/multilingual/config.json")),
    ("tokenizer.json", include_bytes!("../../models/multilingual/tokenizer.json")),
    ("model.safetensors", include_bytes!("../../models/multilingual/model.safetensors")),
];

pub(super) enum ModelFiles {
    Inside { folder: &'static str, files: BuiltinFiles },
    Folder(PathBuf),
    Hub(Box<RepoSnapshot>),
}

impl ModelFiles {
    pub(super) fn of(source: &ModelSource, hub: &HubSpec) -> Result<Self, LoadError> {
        Ok(match source {
            ModelSource::Builtin => Self::Inside { folder: "builtin", files: &ENGLISH },
            ModelSource::Multilingual => Self::Inside { folder: "multilingual", files: &MULTILINGUAL },
            ModelSource::Folder(folder) => Self::Folder(folder.clone()),
            ModelSource::Hub { repo, revision } => {
                Self::Hub(Box::new(RepoSnapshot::open(hub, repo, revision)?))
            }
        })
    }

    /// Reads a file; fails if there is none.
    pub(super) fn read(&self, name: &str) -> Result<Cow<'static, [u8]>, LoadError> {
        if let Some(bytes) = self.read_if_any(name)? {
            return Ok(bytes);
        }
        match self {
            Self::Hub(snapshot) => Err(snapshot.absent(name).into()),
            _ => Err(read_error(&self.path(name), std::io::ErrorKind::NotFound.into())),
        }
    }

    pub(super) fn read_if_any(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        if let Self::Inside { files, .. } = self {
            return Ok(inside(files, name).map(Cow::Borrowed));
        }
        let Some(path) = self.find(name)? else { return Ok(None) };
        read_bounded(&path, MAX_FILE_BYTES).map(|bytes| Some(Cow::Owned(bytes)))
    }

    pub(super) fn has(&self, name: &str) -> Result<bool, LoadError> {
        Ok(match self {
            Self::Inside { files, .. } => inside(files, name).is_some(),
            _ => self.find(name)?.is_some(),
        })
    }

    /// Reads and parses a JSON file; fails if there is none.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, LoadError> {
        self.parse(name, &self.read(name)?)
    }

    pub(super) fn json_if_any<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LoadError> {
        self.read_if_any(name)?.map(|bytes| self.parse(name, &bytes)).transpose()
    }

    /// Opens the weights in `folder`, which is empty or ends in a slash.
    pub(super) fn weights(&self, folder: &str) -> Result<Weights, LoadError> {
        if let Self::Inside { files, .. } = self {
            let bytes = inside(files, WEIGHTS[0].0).unwrap_or_default();
            return Weights::from_static(&self.path(WEIGHTS[0].0), bytes);
        }
        for (single, index) in WEIGHTS {
            if let Some(path) = self.find(&format!("{folder}{single}"))? {
                return Weights::open(&path, std::slice::from_ref(&path));
            }
            if let Some(path) = self.find(&format!("{folder}{index}"))? {
                let parts = shards(&path)?
                    .into_iter()
                    .map(|part| self.require(&format!("{folder}{part}")))
                    .collect::<Result<Vec<_>, _>>()?;
                return Weights::open(&path, &parts);
            }
        }
        self.require(&format!("{folder}{}", WEIGHTS[0].0)).and_then(|path| Weights::open(&path, &[]))
    }

    /// Opens another file of weights, where there is one.
    pub(super) fn weights_if_any(&self, name: &str) -> Result<Option<Weights>, LoadError> {
        if let Self::Inside { files, .. } = self {
            return inside(files, name)
                .map(|bytes| Weights::from_static(&self.path(name), bytes))
                .transpose();
        }
        self.find(name)?.map(|path| Weights::open(&path, std::slice::from_ref(&path))).transpose()
    }

    /// Returns what errors call a file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Inside { folder, .. } => Path::new(folder).join(name),
            Self::Folder(folder) => folder.join(name),
            Self::Hub(snapshot) => snapshot.path(name),
        }
    }

    pub(super) fn require(&self, name: &str) -> Result<PathBuf, LoadError> {
        match (self.find(name)?, self) {
            (Some(path), _) => Ok(path),
            (None, Self::Hub(snapshot)) => Err(snapshot.absent(name).into()),
            (None, _) => Err(read_error(&self.path(name), std::io::ErrorKind::NotFound.into())),
        }
    }

    fn find(&self, name: &str) -> Result<Option<PathBuf>, LoadError> {
        match self {
            Self::Inside { .. } => Ok(None),
            Self::Folder(folder) => {
                let path = folder.join(name);
                match std::fs::metadata(&path) {
                    Ok(file) if file.is_file() => Ok(Some(path)),
                    // To open a pipe may take for ever.
                    Ok(_) => Err(read_error(&path, std::io::Error::other("not a file"))),
                    Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(read_error(&path, source)),
                }
            }
            Self::Hub(snapshot) => Ok(snapshot.get(name)?),
        }
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T, LoadError> {
        if bytes.len() > MAX_CONFIG_BYTES {
            let reason = format!("larger than {} MiB", MAX_CONFIG_BYTES >> 20);
            return Err(LoadError::Unsupported { path: self.path(name), reason });
        }
        serde_json::from_slice(bytes).map_err(|source| LoadError::Config { path: self.path(name), source })
    }
}

fn inside(files: BuiltinFiles, name: &str) -> Option<&'static [u8]> {
    files.iter().find(|(of, _)| *of == name).map(|(_, bytes)| *bytes)
}
