//! How many tokens a text has for the models that answer, at the least: by what its letters cost where a vocabulary of one
//! language does not tell.
//!
//! Weights are halves of what the vocabularies of two families of models need of each script (`tests/golden/tokens.json`), so that
//! no estimate is below half of theirs. Pure; knows nothing of models here.

/// ASCII letters and digits in a row that are no word: encodings, hashes, keys.
const LONG_RUN: usize = 24;

/// Estimates the tokens of a text; less than a model counts in plain English.
pub(super) fn least_tokens(text: &str) -> usize {
    let (mut hundredths, mut run) = (0, 0);
    for char in text.chars() {
        if char.is_ascii_alphanumeric() || char == '+' || char == '/' {
            run += 1;
            continue;
        }
        hundredths += of_run(std::mem::take(&mut run)) + weight(char);
    }
    (hundredths + of_run(run)).div_ceil(100)
}

fn of_run(letters: usize) -> usize {
    if letters > LONG_RUN { letters * 38 } else { 0 }
}

/// What a character costs, in hundredths of a token.
fn weight(char: char) -> usize {
    match char as u32 {
        0..=0x7f => 0,
        // Accents stand in words that are counted otherwise.
        0x80..=0x36f => 30,
        0x530..=0x58f | 0xa00..=0xdff | 0x10a0..=0x10ff => 110,
        0x370..=0x7ff => 50,
        // Georgian and the letters of Hangul lie between Burmese, Amharic, Khmer and their like.
        0x1000..=0x109f | 0x1200..=0x1dff => 155,
        0x800..=0xffff => 85,
        0x1_0000.. => 140,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::device::RowPrecision;
    use crate::model::{LoadOptions, LoadedModel};
    use crate::model_parts::HeadSelection;
    use crate::{ClassifyHeads, ComputeDevice, ModelBackend};
    use signalbox_policy::{HubSpec, ModelSource};

    #[derive(Deserialize)]
    struct Counted {
        text: String,
        /// By each vocabulary.
        tokens: Vec<usize>,
    }

    #[test]
    fn no_count_is_below_half_of_what_models_count() {
        let (device, hub) = (ComputeDevice::Kernels(RowPrecision::F32), HubSpec::default());
        let options =
            LoadOptions { heads: HeadSelection::any(ClassifyHeads::DOMAIN), device: &device, hub: &hub };
        let model = LoadedModel::load(&ModelSource::Builtin, &options).unwrap();
        let counted: Vec<Counted> =
            serde_json::from_str(include_str!("../../tests/golden/tokens.json")).unwrap();
        assert!(counted.len() > 20);
        for Counted { text, tokens } in counted {
            let count = model.tokenize(&text).unwrap().ids.len().max(least_tokens(&text));
            let most = tokens.iter().copied().max().unwrap();
            assert!(count * 2 >= most, "{count} of {most}: {text}");
            let least = tokens.iter().copied().min().unwrap();
            assert!(count <= least * 4, "{count} of {least}: {text}");
        }
    }

    #[test]
    fn plain_english_is_left_to_the_vocabulary() {
        assert_eq!(least_tokens("How do I sort a list of numbers?"), 0);
        assert_eq!(least_tokens(&"a1".repeat(50)), 38);
        assert_eq!(least_tokens("สวัสดี"), 6);
    }
}
