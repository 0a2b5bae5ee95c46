//! Tensors by name, read from their files one at a time: safetensors, in one file or several, or PyTorch's own.
//!
//! A tensor is f32, f16, bf16, or int8 rows with a scale each beside it (`<name>.scale`). Nothing is allocated for one
//! before its shape is what is asked for and its bytes are in the file. Knows nothing of what the tensors are for.

mod bytes;
mod low_rank;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::{DType, Device};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use xxhash_rust::xxh3::Xxh3;

use super::load_error::LoadError;
use super::ops::Matrix;
use bytes::{PIECE, WeightBytes};
use low_rank::{ADAPTER, LowRank};

/// A longer safetensors header is refused; a thousand tensors take a tenth of a mebibyte.
const MAX_HEADER_BYTES: u64 = 8 << 20;

/// A longer index of sharded weights is refused.
const MAX_INDEX_BYTES: u64 = 8 << 20;

pub(super) struct Weights {
    /// Named in errors: the one file, or the index of several.
    path: PathBuf,
    parts: Vec<WeightFile>,
    entries: HashMap<String, TensorEntry>,
    /// What an adapter adds to matrices, by their names.
    low_rank: HashMap<String, LowRank>,
    /// Of all tensors read so far, in their order.
    digest: RefCell<Xxh3>,
    parameters: Cell<usize>,
    bytes: Cell<usize>,
}

enum WeightFile {
    Safetensors { path: PathBuf, bytes: WeightBytes, start: u64 },
    Pickle { path: PathBuf, tensors: PthTensors },
}

struct TensorEntry {
    part: usize,
    kind: ElementType,
    shape: Vec<usize>,
    /// Bytes after the header; empty where PyTorch's reader knows the place.
    span: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ElementType {
    F32,
    F16,
    Bf16,
    I8,
    Other,
}

impl Weights {
    /// Opens weights that are part of this binary.
    pub(super) fn from_static(path: &str, bytes: &'static [u8]) -> Result<Self, LoadError> {
        let mut weights = Self::empty(Path::new(path));
        weights.add_safetensors(Path::new(path), WeightBytes::Static(bytes))?;
        Ok(weights)
    }

    /// Opens `files`, which `path` names: itself, or what an index lists.
    pub(super) fn open(path: &Path, files: &[PathBuf]) -> Result<Self, LoadError> {
        let mut weights = Self::empty(path);
        for file in files {
            if file.extension().is_some_and(|extension| extension == "bin") {
                weights.add_pickle(file)?;
            } else {
                let opened = File::open(file).map_err(|source| read_error(file, source))?;
                weights.add_safetensors(file, WeightBytes::File(opened))?;
            }
        }
        Ok(weights)
    }

    fn empty(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            parts: Vec::new(),
            entries: HashMap::new(),
            low_rank: HashMap::new(),
            digest: RefCell::new(Xxh3::new()),
            parameters: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    fn add_safetensors(&mut self, path: &Path, bytes: WeightBytes) -> Result<(), LoadError> {
        let broken = |reason: String| LoadError::Weights { path: path.to_owned(), reason };
        let all = bytes.len().map_err(|source| read_error(path, source))?;
        let mut length = [0; 8];
        if all < 8 {
            return Err(broken("not a safetensors file: shorter than its header".into()));
        }
        bytes.read(0, &mut length).map_err(|source| read_error(path, source))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > all - 8 {
            return Err(broken("not a safetensors file: its header does not fit".into()));
        }
        let mut header = vec![0; length as usize];
        bytes.read(8, &mut header).map_err(|source| read_error(path, source))?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| broken(error.to_string()))?;
        let start = 8 + length;
        if metadata.data_len() as u64 != all - start {
            return Err(broken(format!(
                "{} bytes of tensors, {} are announced: the file is damaged",
                all - start,
                metadata.data_len()
            )));
        }
        let part = self.parts.len();
        for (name, info) in metadata.tensors() {
            let span = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
            let entry = TensorEntry {
                part,
                kind: ElementType::of_safetensors(info.dtype),
                shape: info.shape.clone(),
                span,
            };
            self.entries.insert(name, entry);
        }
        self.parts.push(WeightFile::Safetensors { path: path.to_owned(), bytes, start });
        Ok(())
    }

    fn add_pickle(&mut self, path: &Path) -> Result<(), LoadError> {
        let file = File::open(path).map_err(|source| read_error(path, source))?;
        let bytes = file.metadata().map_err(|source| read_error(path, source))?.len();
        let tensors = PthTensors::new(path, None)
            .map_err(|error| LoadError::Weights { path: path.to_owned(), reason: error.to_string() })?;
        let part = self.parts.len();
        for (name, info) in tensors.tensor_infos() {
            let shape = info.layout.shape().dims().to_vec();
            let numbers = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
            let size = numbers.and_then(|numbers| numbers.checked_mul(info.dtype.size_in_bytes()));
            if size.is_none_or(|size| size as u64 > bytes) {
                let reason = format!("{name}: {shape:?} is more than the file holds");
                return Err(LoadError::Weights { path: path.to_owned(), reason });
            }
            let entry = TensorEntry { part, kind: ElementType::of_candle(info.dtype), shape, span: (0, 0) };
            self.entries.insert(name.clone(), entry);
        }
        self.parts.push(WeightFile::Pickle { path: path.to_owned(), tensors });
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entry(name).map(|(_, entry)| entry.shape.as_slice())
    }

    /// Returns the prefixes of `name` among the tensors' names; each is empty or ends in a dot.
    pub(super) fn prefixes(&self, name: &str) -> impl Iterator<Item = &str> {
        let prefixes = self.entries.keys().filter_map(move |whole| whole.strip_suffix(name));
        prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
    }

    /// Returns the names of all tensors of numbers under a prefix, without it, in their order.
    pub(super) fn names_under(&self, prefix: &str) -> Vec<String> {
        let is_number = |entry: &TensorEntry| !matches!(entry.kind, ElementType::I8 | ElementType::Other);
        let of_base =
            self.entries.iter().filter(|(name, entry)| !name.starts_with(ADAPTER) && is_number(entry));
        let mut names: Vec<String> =
            of_base.filter_map(|(name, _)| name.strip_prefix(prefix).map(str::to_owned)).collect();
        names.sort();
        names
    }

    /// Reads a tensor in the shape that the file has it in.
    pub(super) fn whole(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), LoadError> {
        let shape = self.shape(name).ok_or_else(|| self.missing(name))?.to_vec();
        let values = self.floats(name, &shape)?;
        Ok((shape, values))
    }

    /// Returns how many numbers were read so far.
    pub(super) fn parameters(&self) -> usize {
        self.parameters.get()
    }

    /// Returns the memory of what was read so far, in bytes: int8 as it is, the rest as f32.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Returns a hash of all tensors read so far, in their order.
    pub(super) fn digest(&self) -> u128 {
        self.digest.borrow().digest128()
    }

    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        self.floats(name, &[len])
    }

    pub(super) fn vector_if_any(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, LoadError> {
        self.has(name).then(|| self.vector(name, len)).transpose()
    }

    /// Reads a matrix (rows, columns), as f32 or as int8 with a scale for each row.
    pub(super) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, LoadError> {
        if self.checked(name, &[rows, cols])?.kind == ElementType::I8 && !self.low_rank.contains_key(name) {
            let mut data = Vec::with_capacity(rows * cols);
            self.read(name, &[rows, cols], &mut |bytes| {
                data.extend(bytes.iter().map(|byte| byte.cast_signed()));
            })?;
            let scale = self.vector(&format!("{name}.scale"), rows)?;
            return Ok(Matrix::Int8 { rows, cols, data, scale });
        }
        Ok(Matrix::F32 { rows, cols, data: self.floats(name, &[rows, cols])? })
    }

    /// Reads matrices of equal shape and puts their rows one after the other.
    pub(super) fn stacked(&self, names: &[String], rows: usize, cols: usize) -> Result<Matrix, LoadError> {
        let mut parts = names.iter().map(|name| self.matrix(name, rows, cols));
        let mut all = parts.next().unwrap_or_else(|| Err(self.missing("a matrix to stack")))?;
        for part in parts {
            all = match (all, part?) {
                (
                    Matrix::Int8 { rows, cols, mut data, mut scale },
                    Matrix::Int8 { rows: more_rows, data: more, scale: scales, .. },
                ) => {
                    data.extend(more);
                    scale.extend(scales);
                    Matrix::Int8 { rows: rows + more_rows, cols, data, scale }
                }
                (one, other) => {
                    let (rows, cols) = one.dims();
                    let rows = rows + other.dims().0;
                    let mut data = one.into_f32();
                    data.extend(other.into_f32());
                    Matrix::F32 { rows, cols, data }
                }
            };
        }
        Ok(all)
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let kind = self.checked(name, shape)?.kind;
        let mut all = Vec::with_capacity(shape.iter().product());
        match kind {
            ElementType::F32 => self.read(name, shape, &mut |bytes| {
                all.extend(bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)));
            })?,
            ElementType::Bf16 => self.read(name, shape, &mut |bytes| {
                all.extend(halves(bytes).map(|half| f32::from_bits(u32::from(half) << 16)));
            })?,
            ElementType::F16 => self.read(name, shape, &mut |bytes| {
                all.extend(halves(bytes).map(|half| half::f16::from_bits(half).to_f32()));
            })?,
            ElementType::I8 | ElementType::Other => {
                return Err(self.differs(name, format!("f32, f16 or bf16 {shape:?}")));
            }
        }
        self.add_low_rank(name, shape, &mut all)?;
        Ok(all)
    }

    /// Finds a tensor of that shape.
    fn checked(&self, name: &str, shape: &[usize]) -> Result<&TensorEntry, LoadError> {
        let (_, entry) = self.entry(name).ok_or_else(|| self.missing(name))?;
        if entry.shape == shape { Ok(entry) } else { Err(self.differs(name, format!("{shape:?}"))) }
    }

    /// Hands on a tensor's bytes, little-endian and row by row, a piece at a time.
    fn read(&self, name: &str, shape: &[usize], take: &mut dyn FnMut(&[u8])) -> Result<(), LoadError> {
        let (full, entry) = self.entry(name).ok_or_else(|| self.missing(name))?;
        let mut digest = self.digest.borrow_mut();
        for size in shape {
            digest.update(&size.to_le_bytes());
        }
        let mut take = |bytes: &[u8]| {
            digest.update(bytes);
            take(bytes);
        };
        match &self.parts[entry.part] {
            WeightFile::Safetensors { path, bytes, start } => bytes
                .pieces(start + entry.span.0, start + entry.span.1, &mut take)
                .map_err(|source| read_error(path, source))?,
            WeightFile::Pickle { path, tensors } => {
                for values in unpickled(path, tensors, &full)?.chunks(PIECE / 4) {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    take(&bytes);
                }
            }
        }
        let count: usize = shape.iter().product();
        self.parameters.set(self.parameters.get() + count);
        self.bytes.set(self.bytes.get() + if entry.kind == ElementType::I8 { count } else { count * 4 });
        Ok(())
    }

    /// Finds a tensor under its name, or under the one that it had in the first BERT checkpoints.
    fn entry(&self, name: &str) -> Option<(Cow<'_, str>, &TensorEntry)> {
        if let Some((name, entry)) = self.entries.get_key_value(name) {
            return Some((Cow::Borrowed(name), entry));
        }
        let old = if let Some(norm) = name.strip_suffix("LayerNorm.weight") {
            format!("{norm}LayerNorm.gamma")
        } else {
            format!("{}LayerNorm.beta", name.strip_suffix("LayerNorm.bias")?)
        };
        let entry = self.entries.get(&old)?;
        Some((Cow::Owned(old), entry))
    }

    fn missing(&self, tensor: &str) -> LoadError {
        LoadError::Missing { path: self.path.clone(), tensor: tensor.to_owned() }
    }

    fn differs(&self, tensor: &str, wanted: String) -> LoadError {
        let Some((_, entry)) = self.entry(tensor) else { return self.missing(tensor) };
        let path = match &self.parts[entry.part] {
            WeightFile::Safetensors { path, .. } | WeightFile::Pickle { path, .. } => path.clone(),
        };
        let found = format!("{:?} {:?}", entry.kind, entry.shape);
        LoadError::Tensor { path, tensor: tensor.to_owned(), wanted, found }
    }
}

impl ElementType {
    fn of_safetensors(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::I8 => Self::I8,
            _ => Self::Other,
        }
    }

    fn of_candle(dtype: DType) -> Self {
        match dtype {
            // Unpickled tensors are handed on as f32.
            DType::F32 | DType::F16 | DType::BF16 => Self::F32,
            _ => Self::Other,
        }
    }
}

fn unpickled(path: &Path, tensors: &PthTensors, name: &str) -> Result<Vec<f32>, LoadError> {
    let broken = |error: candle_core::Error| LoadError::Weights {
        path: path.to_owned(),
        reason: format!("{name}: {error}"),
    };
    let tensor = tensors
        .get(name)
        .map_err(broken)?
        .ok_or_else(|| LoadError::Missing { path: path.to_owned(), tensor: name.to_owned() })?;
    let flat = tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.to_dtype(DType::F32)?.flatten_all());
    flat.and_then(|tensor| tensor.to_vec1()).map_err(broken)
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half))
}

/// Returns the files that an index of sharded weights lists, each once.
pub(super) fn shards(path: &Path) -> Result<BTreeSet<String>, LoadError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let bytes = read_bounded(path, MAX_INDEX_BYTES)?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|source| LoadError::Config { path: path.to_owned(), source })?;
    Ok(index.weight_map.into_values().collect())
}

/// Reads a whole file, unless it is longer than that.
pub(super) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, LoadError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
        let message = format!("larger than {} MiB", max_bytes >> 20);
        let is_whole = bytes.len() as u64 <= max_bytes;
        is_whole
            .then_some(bytes)
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::FileTooLarge, message))
    };
    read().map_err(|source| read_error(path, source))
}

pub(super) fn read_error(path: &Path, source: std::io::Error) -> LoadError {
    LoadError::Read { path: path.to_owned(), source }
}
