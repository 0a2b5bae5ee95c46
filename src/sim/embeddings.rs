//! `/v1/embeddings`: vectors of unit length by the words of a text, so that texts with common words are near.
//! It refuses to know what words mean.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::SimOptions;
use super::error::SimApiError;
use super::tokens::ids_of;

/// How many numbers a vector has where the client does not say.
const DIMENSIONS: usize = 256;

/// The most that it may have.
const MAX_DIMENSIONS: usize = 4096;

/// The most texts of one request.
const MAX_TEXTS: usize = 2048;

#[derive(Debug, Deserialize)]
struct EmbeddingBody {
    model: Option<String>,
    input: EmbeddingInput,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum EmbeddingInput {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u64>),
    ManyIds(Vec<Vec<u64>>),
}

/// Answers a request.
pub(super) fn embed(body: &[u8], options: &SimOptions) -> Result<Value, SimApiError> {
    let body: EmbeddingBody = serde_json::from_slice(body)
        .map_err(|error| SimApiError::Malformed { message: error.to_string(), at: Some("body") })?;
    let model = body.model.unwrap_or_else(|| options.models[0].clone());
    if !options.models.contains(&model) {
        return Err(SimApiError::UnknownModel { model, served: options.models.clone() });
    }
    let dimensions = body.dimensions.unwrap_or(DIMENSIONS);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        let message = format!("dimensions must be between 1 and {MAX_DIMENSIONS}, got {dimensions}.");
        return Err(SimApiError::invalid(message, Some("dimensions")));
    }
    let texts: Vec<Vec<u64>> = match &body.input {
        EmbeddingInput::Text(text) => vec![ids_of(text)],
        EmbeddingInput::Texts(texts) => texts.iter().map(|text| ids_of(text)).collect(),
        EmbeddingInput::Ids(ids) => vec![ids.clone()],
        EmbeddingInput::ManyIds(ids) => ids.clone(),
    };
    if texts.is_empty() || texts.len() > MAX_TEXTS {
        return Err(SimApiError::invalid("input must have between 1 and 2048 texts.", Some("input")));
    }
    let is_base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            let message = "encoding_format must be float or base64.";
            return Err(SimApiError::invalid(message, Some("encoding_format")));
        }
    };
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let data = texts.iter().enumerate().map(|(index, ids)| {
        let vector = vector(ids, dimensions);
        let embedding = if is_base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            json!(STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(json!({"object": "list", "model": model, "data": data, "usage": usage}))
}

/// The mean of its tokens' own directions.
fn vector(ids: &[u64], dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; dimensions];
    for id in ids {
        for (at, number) in sum.iter_mut().enumerate() {
            let hash = xxh3_64_with_seed(&id.to_le_bytes(), at as u64);
            *number += (hash >> 40) as f32 / (1_u32 << 23) as f32 - 1.0;
        }
    }
    let length = sum.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 {
        for number in &mut sum {
            *number /= length;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &Value) -> Result<Value, SimApiError> {
        let options = SimOptions { models: vec!["m".to_owned()], ..SimOptions::default() };
        embed(body.to_string().as_bytes(), &options)
    }

    fn numbers(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
    }

    #[test]
    fn texts_with_common_words_are_near_in_either_encoding() {
        let texts = ["the green train waits", "a green train waits", "north of the quiet river"];
        let answer = ask(&json!({"model": "m", "input": texts, "dimensions": 64})).unwrap();
        let vectors: Vec<Vec<f32>> = (0..3).map(|at| numbers(&answer["data"][at]["embedding"])).collect();
        let dot = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum::<f32>();
        assert!((dot(0, 0) - 1.0).abs() < 1e-5 && dot(0, 1) > dot(0, 2) + 0.2, "{} {}", dot(0, 1), dot(0, 2));
        assert_eq!(vectors[0].len(), 64);
        let coded = ask(&json!({"input": texts[0], "dimensions": 64, "encoding_format": "base64"})).unwrap();
        let bytes = STANDARD.decode(coded["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let read: Vec<f32> =
            bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(read, vectors[0]);
        assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 10);
    }

    #[test]
    fn what_cannot_be_embedded_is_refused() {
        for body in [
            json!({"input": "a", "dimensions": 0}),
            json!({"input": "a", "encoding_format": "x"}),
            json!({"input": []}),
            json!({"input": {}}),
            json!({"model": "other", "input": "a"}),
        ] {
            assert!(ask(&body).is_err(), "{body}");
        }
    }
}
