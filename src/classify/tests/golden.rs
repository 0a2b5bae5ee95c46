//! Holds every family to what `transformers` computes with the same files; tests only. `tests/golden/make.py` made them.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde::Deserialize;

use crate::backend::{HeadOutputs, ModelBackend, WindowPair};
use crate::device::{ComputeDevice, RowPrecision, TensorEngine};
use crate::groundedness::GroundednessInput;
use crate::load_error::LoadError;
use crate::model::{LoadOptions, LoadedModel};
use crate::model_parts::HeadSelection;
use crate::{ClassifyHead, ClassifyHeads};
use signalbox_policy::{HubSpec, ModelSource};

const GOLDEN: &str = include_str!("../../../tests/golden/checkpoints.json");

const CLAIMS: &str = include_str!("../../../tests/golden/claims.json");

/// The furthest that any number may be from that of `transformers`.
const NEAR: f32 = 1e-4;

/// The same with 11 bits of precision, and with 8; the random weights spread what is rounded further than trained ones.
const NEAR_IN_F16: f32 = 2e-2;
const NEAR_IN_BF16: f32 = 8.0 * NEAR_IN_F16;

#[derive(Deserialize)]
struct Set {
    model: String,
    question: String,
    /// The pooling to put in place of the one in the folder.
    pooling: Option<serde_json::Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    /// With the special ones, cut to what the model reads.
    ids: Vec<u32>,
    values: serde_json::Value,
}

#[derive(Deserialize)]
struct Claims {
    model: String,
    cases: Vec<ClaimCase>,
}

#[derive(Deserialize)]
struct ClaimCase {
    context: String,
    question: String,
    answer: String,
    /// With the special ones.
    ids: Vec<u32>,
    /// For each token of the answer the probability that it is made up.
    values: Vec<f32>,
}

pub(super) fn kernels() -> ComputeDevice {
    ComputeDevice::Kernels(RowPrecision::F32)
}

fn tensors(dtype: DType) -> ComputeDevice {
    ComputeDevice::Tensors(TensorEngine::new(Device::Cpu, dtype))
}

pub(super) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models")
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

pub(super) fn load(folder: &Path, device: &ComputeDevice) -> LoadedModel {
    load_as(folder, device, None).unwrap()
}

pub(super) fn load_as(
    folder: &Path,
    device: &ComputeDevice,
    assigned: Option<ClassifyHead>,
) -> Result<LoadedModel, LoadError> {
    let hub = HubSpec::default();
    let heads = assigned.map_or(HeadSelection::any(ClassifyHeads::ALL), HeadSelection::only);
    let options = LoadOptions { heads, device, hub: &hub };
    LoadedModel::load(&ModelSource::Folder(folder.to_owned()), &options)
}

fn numbers(values: &serde_json::Value) -> Vec<f32> {
    serde_json::from_value(values.clone()).unwrap()
}

/// Returns how far the answer is from what it should be.
fn distance(head: ClassifyHead, labels: usize, answer: &HeadOutputs, values: &serde_json::Value) -> f32 {
    let furthest = |got: &[f32], want: &[f32]| {
        assert_eq!(got.len(), want.len());
        got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max)
    };
    match head {
        ClassifyHead::Domain => {
            let (got, want) = (answer.domain.as_deref().unwrap(), numbers(values));
            let first = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            // Domains may change places where they are equally likely.
            let behind = want[first(&want)] - want[first(got)];
            furthest(got, &want).max(behind / 2.0)
        }
        ClassifyHead::Jailbreak => {
            // All labels but the first are of attacks, or the only one is; SAFE and BENIGN come first.
            let want: f32 = numbers(values).iter().skip(usize::from(labels > 1)).sum();
            (answer.jailbreak.as_ref().unwrap().score - want).abs()
        }
        ClassifyHead::Pii => {
            let want: Vec<(u16, f32)> = serde_json::from_value(values.clone()).unwrap();
            let got = answer.pii.as_deref().unwrap();
            for ((label, p), (wanted, _)) in got.iter().zip(&want) {
                // So may the labels of a token.
                assert!(label == wanted || *p < 0.5, "{label} against {wanted}");
            }
            let probabilities = |tokens: &[(u16, f32)]| tokens.iter().map(|(_, p)| *p).collect::<Vec<_>>();
            furthest(&probabilities(got), &probabilities(&want))
        }
        ClassifyHead::Hallucination | ClassifyHead::Paraphrase => {
            unreachable!("claims and questions have cases of their own")
        }
        ClassifyHead::Embedding => {
            let (got, want) = (answer.embedding.clone().unwrap(), numbers(values));
            // Vectors that were made one long there are made so here too.
            let length = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            let is_unit = (length(&want) - 1.0).abs() < 1e-4;
            let share = if is_unit { 1.0 / length(&got) } else { 1.0 };
            furthest(&got.iter().map(|x| x * share).collect::<Vec<_>>(), &want)
        }
    }
}

#[test]
fn every_family_computes_what_transformers_computes() {
    compare(&kernels(), NEAR);
}

#[test]
fn tensor_operations_compute_what_transformers_computes() {
    compare(&tensors(DType::F32), NEAR);
}

#[test]
fn half_precision_finds_the_same() {
    compare(&tensors(DType::F16), NEAR_IN_F16);
    compare(&tensors(DType::BF16), NEAR_IN_BF16);
}

#[test]
fn detectors_with_any_special_tokens_judge_pairs_as_transformers_does() {
    let sets: Vec<Claims> = serde_json::from_str(CLAIMS).unwrap();
    assert_eq!(sets.len(), 3);
    for (set, device) in sets
        .iter()
        .flat_map(|set| [kernels(), tensors(DType::F32)].into_iter().map(move |device| (set, device)))
    {
        let model = load_as(&models().join(&set.model), &device, Some(ClassifyHead::Hallucination)).unwrap();
        assert_eq!(model.heads(), ClassifyHeads::HALLUCINATION);
        let tokens = |case: &ClaimCase| {
            let GroundednessInput { context, question, answer } =
                GroundednessInput { context: &case.context, question: &case.question, answer: &case.answer };
            let asked = GroundednessInput { context, question, answer }.question_suffix();
            let ids = |text: &str| model.tokenize(text).unwrap().ids;
            ([ids(context), ids(&asked)].concat(), ids(answer))
        };
        let tokens: Vec<_> = set.cases.iter().map(tokens).collect();
        let pairs: Vec<WindowPair<'_>> =
            tokens.iter().map(|(first, second)| WindowPair { first, second }).collect();
        for (pair, case) in pairs.iter().zip(&set.cases) {
            assert_eq!(model.pair_input(&[*pair]).unwrap().ids, case.ids, "{}: {}", set.model, case.answer);
        }
        for (answer, case) in model.run_pairs(&pairs).unwrap().iter().zip(&set.cases) {
            let got = answer.hallucination.as_deref().unwrap();
            assert_eq!(got.len(), case.values.len());
            let off = got.iter().zip(&case.values).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
            assert!(off < NEAR, "{}: {}: off by {off}", set.model, case.answer);
        }
    }
}

/// A setting that were ignored would go unnoticed if the numbers did not depend on it.
#[test]
fn each_setting_of_an_encoder_matters_to_the_numbers() {
    for (name, key, value) in [
        ("modernbert-domain", "local_attention", serde_json::json!(10)),
        ("modernbert-domain", "layer_types", vec!["full_attention"; 4].into()),
        ("modernbert-domain", "norm_eps", serde_json::json!(0.01)),
        ("modernbert-domain", "hidden_activation", serde_json::json!("relu")),
        ("modernbert-domain", "classifier_pooling", serde_json::json!("mean")),
        ("modernbert-domain", "classifier_activation", serde_json::json!("relu")),
        ("mmbert-tokens-yarn", "rope_scaling", serde_json::json!(null)),
        ("mmbert-tokens-yarn", "global_rope_theta", serde_json::json!(10000.0)),
        ("mmbert-tokens-yarn", "local_rope_theta", serde_json::json!(10000.0)),
        ("roberta-guard-shards", "pad_token_id", serde_json::json!(0)),
        ("bert-tokens-bin", "hidden_act", serde_json::json!("relu")),
        ("bert-domain", "num_attention_heads", serde_json::json!(2)),
        ("deberta-guard", "max_relative_positions", serde_json::json!(12)),
        ("deberta-guard", "norm_rel_ebd", serde_json::json!("none")),
        ("deberta-guard", "pos_att_type", serde_json::json!(["c2p"])),
        ("deberta-guard", "layer_norm_eps", serde_json::json!(0.01)),
        ("deberta-guard", "pooler_hidden_act", serde_json::json!("tanh")),
        ("deberta-guard", "num_attention_heads", serde_json::json!(2)),
        ("deberta-tokens", "hidden_act", serde_json::json!("relu")),
        ("deberta-tokens", "position_biased_input", serde_json::json!(false)),
        ("deberta-tokens", "type_vocab_size", serde_json::json!(0)),
        ("qwen3-guard", "rope_parameters", serde_json::json!({"rope_theta": 100.0})),
        ("qwen3-guard", "rms_norm_eps", serde_json::json!(0.01)),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        copy(&models().join(name), scratch.path());
        let file = scratch.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(&file, config.to_string()).unwrap();
        let [as_is, changed] = [&models().join(name), scratch.path()].map(|folder| {
            let model = load(folder, &kernels());
            let ids =
                model.tokenize("What is the derivative of x^3, and who wrote to the system?").unwrap().ids;
            model.run(&[&ids], model.heads()).unwrap().remove(0)
        });
        let numbers = |answer: &HeadOutputs| match (&answer.domain, &answer.jailbreak, &answer.pii) {
            (Some(domain), ..) => domain.clone(),
            (_, Some(risk), _) => vec![risk.score],
            (_, _, pii) => pii.iter().flatten().map(|(label, p)| f32::from(*label) + p).collect(),
        };
        let differs = numbers(&as_is).iter().zip(numbers(&changed)).any(|(a, b)| (a - b).abs() > NEAR);
        assert!(differs, "{name}: {key} changes nothing");
    }
}

#[test]
fn an_instruction_before_a_text_moves_no_byte_of_it() {
    let model = load(&models().join("sentence-qwen3"), &kernels());
    for text in ["What is open?", "1 cat", "\n the dog", "東京", " "] {
        let tokens = model.tokenize(text).unwrap();
        let bytes: Vec<_> = tokens.bytes.iter().filter(|bytes| !bytes.is_empty()).cloned().collect();
        assert_eq!((bytes[0].start, bytes.last().unwrap().end), (0, text.len()), "{text:?}");
        assert!(bytes.windows(2).all(|pair| pair[0].start <= pair[1].start), "{text:?}");
    }
}

fn compare(device: &ComputeDevice, near: f32) {
    let sets: Vec<Set> = serde_json::from_str(GOLDEN).unwrap();
    assert!(sets.len() >= 27);
    let mut far = Vec::new();
    for set in sets {
        let scratch = tempfile::tempdir().unwrap();
        let mut folder = models().join(&set.model);
        if let Some(pooling) = &set.pooling {
            copy(&folder, scratch.path());
            folder = scratch.path().to_owned();
            std::fs::write(folder.join("1_Pooling/config.json"), pooling.to_string()).unwrap();
        }
        let model = load(&folder, device);
        let head = ClassifyHead::ALL.into_iter().find(|head| head.as_str() == set.question).unwrap();
        assert_eq!(model.heads().iter().collect::<Vec<_>>(), [head], "{}", set.model);
        let tokens: Vec<Vec<u32>> =
            set.cases.iter().map(|case| model.tokenize(&case.text).unwrap().ids).collect();
        let windows: Vec<&[u32]> =
            tokens.iter().map(|ids| &ids[..ids.len().min(model.max_input_tokens())]).collect();
        for (window, case) in windows.iter().zip(&set.cases) {
            let input = model.window_input(&[window]).unwrap();
            assert_eq!(input.ids, case.ids, "{}: {}", set.model, case.text);
        }
        let labels = model.labels(head).len();
        let answers = model.run(&windows, model.heads()).unwrap();
        for (answer, case) in answers.iter().zip(&set.cases) {
            let mut distance = distance(head, labels, answer, &case.values);
            if near > NEAR && head == ClassifyHead::Embedding {
                // What was rounded is as near as it is small.
                distance /= numbers(&case.values).iter().fold(1.0, |most, x| x.abs().max(most));
            }
            if distance >= near {
                far.push(format!("{}: {}: off by {distance}", set.model, case.text));
            }
        }
        let cut = tokens.iter().zip(&windows).filter(|(all, window)| all.len() > window.len()).count();
        assert!(cut > 0, "{}: no text was cut", set.model);
    }
    assert!(far.is_empty(), "{}", far.join("\n"));
}
