//! Holds the trunk to `candle_transformers`' own BERT on the same weights; tests only.

use super::encoder::{Shape, Trunk};
use super::weights::Weights;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;

const FILE: &[u8] = include_bytes!("../../models/builtin/model.safetensors");

/// The reference model, every int8 row unfolded to f32.
fn reference(shape: &Shape) -> Result<BertModel> {
    let weights = Weights::new(FILE)?;
    let file = SafeTensors::deserialize(FILE).map_err(candle_core::Error::wrap)?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let tensor = match (view.dtype(), view.shape()) {
            (Dtype::I8, [rows, columns]) => {
                let (values, scales) = weights.rows(&name, (*rows, *columns))?;
                let rows = values.chunks_exact(*columns).zip(scales);
                let flat =
                    rows.flat_map(|(row, scale)| row.iter().map(move |x| f32::from(x.cast_signed()) * scale));
                Tensor::from_vec(flat.collect::<Vec<f32>>(), view.shape(), &Device::Cpu)?
            }
            (Dtype::F32, [len]) => Tensor::from_vec(weights.vector(&name, *len)?, *len, &Device::Cpu)?,
            _ => continue,
        };
        tensors.insert(name, tensor);
    }
    // The built-in model keeps the one token type that it knows inside its positions.
    let types = Tensor::zeros((2, shape.width), DType::F32, &Device::Cpu)?;
    tensors.insert("embeddings.token_type_embeddings.weight".to_owned(), types);
    let config: Config = serde_json::from_value(serde_json::json!({
        "vocab_size": shape.vocabulary, "hidden_size": shape.width, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "intermediate_size": shape.intermediate, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0, "max_position_embeddings": shape.positions, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "use_cache": false, "classifier_dropout": null, "model_type": "bert",
    }))
    .map_err(candle_core::Error::wrap)?;
    BertModel::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &config)
}

#[test]
fn the_trunk_computes_what_the_reference_bert_computes() {
    let config: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../models/builtin/config.json")).unwrap();
    let shape: Shape = serde_json::from_value(config["trunk"].clone()).unwrap();
    let trunk = Trunk::load(&Weights::new(FILE).unwrap(), &shape).unwrap();
    let reference = reference(&shape).unwrap();
    for length in [1_u32, 7, 64, 300] {
        let ids: Vec<u32> = (0..length).map(|at| (at * 7919 + 101) % shape.vocabulary as u32).collect();
        let input = Tensor::from_slice(&ids, (1, ids.len()), &Device::Cpu).unwrap();
        let states = reference.forward(&input, &input.zeros_like().unwrap(), None).unwrap();
        let expected: Vec<f32> = states.mean(1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let means = trunk.mean_states(&ids).unwrap();
        let found = means.last().unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found} is not {expected} at {length} tokens");
        }
    }
}
