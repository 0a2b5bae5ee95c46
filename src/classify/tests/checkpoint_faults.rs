//! Checkpoints that say something wrong of themselves: what is refused, and what is read as far as it is understood.

use std::path::Path;

use super::golden::{copy, kernels, load, load_as, models};
use crate::ClassifyHead;
use crate::backend::ModelBackend;

#[test]
fn a_checkpoint_that_cannot_judge_pairs_is_no_detector() {
    for (name, why) in [
        ("bert-domain", "cannot answer `hallucination`: it classifies whole texts"),
        ("sentence-bert-dense", "cannot answer `hallucination`: it has no classifier"),
        ("bert-tokens-bin", "is known to stand for what is made up"),
    ] {
        let error =
            load_as(&models().join(name), &kernels(), Some(ClassifyHead::Hallucination)).err().unwrap();
        assert!(error.to_string().contains(why), "{name}: {error}");
    }
    let scratch = tempfile::tempdir().unwrap();
    let fails = |file: &str, text: &str, why: &str| {
        copy(&models().join("bert-claims"), scratch.path());
        std::fs::write(scratch.path().join(file), text).unwrap();
        let error = load_as(scratch.path(), &kernels(), Some(ClassifyHead::Hallucination)).err().unwrap();
        assert!(error.to_string().contains(why), "{error}");
    };
    let single = std::fs::read_to_string(models().join("bert-domain/tokenizer.json")).unwrap();
    fails("tokenizer.json", &single, "tokenizer.json: it puts nothing between the two texts of a pair");
    let config = std::fs::read_to_string(models().join("bert-claims/config.json")).unwrap();
    let more = config.replace("\"1\": \"HALLUCINATED\"", "\"1\": \"HALLUCINATED\", \"2\": \"b\"");
    fails("config.json", &more, "config.json names 3 labels");
}

/// Whatever a configuration claims, nothing is allocated for it that the file does not hold.
#[test]
fn a_configuration_that_lies_about_its_tensors_is_an_error() {
    let keys = [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ];
    for name in [
        "bert-domain",
        "bert-tokens-bin",
        "modernbert-domain",
        "mmbert-tokens-yarn",
        "electra-guard",
        "mpnet-guard",
        "deberta-guard",
        "deberta-tokens",
        "qwen3-guard",
    ] {
        let scratch = tempfile::tempdir().unwrap();
        copy(&models().join(name), scratch.path());
        let file = scratch.path().join("config.json");
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for key in keys {
            for value in [0, 1, 3, 1 << 12, 1 << 20, 1 << 31, 1 << 40, u64::MAX >> 1, u64::MAX] {
                let mut config = config.clone();
                config[key] = value.into();
                std::fs::write(&file, config.to_string()).unwrap();
                let loaded = load_as(scratch.path(), &kernels(), None);
                let is_possible = (1..=1 << 20).contains(&value);
                assert!(is_possible || loaded.is_err(), "{name}: {key} {value}");
            }
        }
        for (key, value) in [
            ("head_dim", serde_json::json!(u64::MAX)),
            ("head_dim", serde_json::json!(1 << 12)),
            ("num_key_value_heads", serde_json::json!(0)),
            ("position_buckets", serde_json::json!(1_u64 << 40)),
            ("position_buckets", serde_json::json!(1)),
            ("max_relative_positions", serde_json::json!(1_u64 << 40)),
            ("max_relative_positions", serde_json::json!(2)),
            ("type_vocab_size", serde_json::json!(1_u64 << 40)),
            ("embedding_size", serde_json::json!(1_u64 << 40)),
            ("conv_kernel_size", serde_json::json!(3)),
            ("local_attention", serde_json::json!(u64::MAX)),
            ("id2label", serde_json::json!({"18446744073709551615": "a"})),
            ("num_labels", serde_json::json!(1_u64 << 40)),
            ("pad_token_id", serde_json::json!(u32::MAX)),
        ] {
            let mut config = config.clone();
            config[key] = value;
            std::fs::write(&file, config.to_string()).unwrap();
            // Either is right, as long as it is an answer.
            let _ = load_as(scratch.path(), &kernels(), None);
        }
    }
}

/// A folder of an adapter beside that of its base, as the test may change them.
fn adapter() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["qwen3-base", "qwen3-domain-lora"] {
        copy(&models().join(name), &scratch.path().join(name));
    }
    scratch
}

#[test]
fn an_adapter_is_read_as_far_as_it_is_understood() {
    let fails = |change: &dyn Fn(&Path), why: &str| {
        let scratch = adapter();
        let folder = scratch.path().join("qwen3-domain-lora");
        change(&folder);
        let error = load_as(&folder, &kernels(), None).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    };
    let set = |key: &'static str, value: serde_json::Value| {
        move |folder: &Path| {
            let file = folder.join("adapter_config.json");
            let mut config: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            config[key] = value.clone();
            std::fs::write(file, config.to_string()).unwrap();
        }
    };
    fails(&set("use_dora", true.into()), "adapter_config.json: `use_dora` is set");
    fails(
        &set("base_model_name_or_path", "/nowhere".into()),
        "neither a folder beside it nor a model of the hub",
    );
    fails(&set("base_model_name_or_path", ".".into()), "its base is an adapter too");
    let renamed = |from: &'static str, to: &'static str| {
        move |folder: &Path| {
            let file = folder.join("adapter_model.safetensors");
            let bytes = std::fs::read(&file).unwrap();
            let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
            let text = std::str::from_utf8(&bytes[8..8 + header]).unwrap().replacen(from, to, 1);
            let all =
                [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &bytes[8 + header..]].concat();
            std::fs::write(file, all).unwrap();
        }
    };
    let first = "layers.0.self_attn.q_proj.lora_A";
    fails(&renamed(first, "layers.9.self_attn.q_proj.lora_A"), "the base has no such matrix");
    fails(&renamed(first, "layers.0.self_attn.q_proj.lora_magnitude_vector"), "not computed");
    fails(&renamed("base_model.model.score", "score"), "not a tensor of an adapter");
    // The names of the classes are wanted, or there is nothing to call them by.
    let scratch = adapter();
    let folder = scratch.path().join("qwen3-domain-lora");
    let labels = |folder: &Path| load(folder, &kernels()).labels(ClassifyHead::Domain)[4].to_string();
    assert_eq!(labels(&folder), "economics");
    std::fs::remove_file(folder.join("label_mapping.json")).unwrap();
    assert_eq!(labels(&folder), "LABEL_4");
}

#[test]
fn files_that_are_too_long_or_none_at_all_are_not_read() {
    let fails = |file: &str, change: &dyn Fn(&Path), why: &str| {
        let scratch = tempfile::tempdir().unwrap();
        copy(&models().join("bert-domain"), scratch.path());
        change(&scratch.path().join(file));
        let error = load_as(scratch.path(), &kernels(), None).err().unwrap().to_string();
        assert!(error.contains(file) && error.contains(why), "{error}");
    };
    let long = |bytes: u64| move |path: &Path| std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
    let text = |text: Vec<u8>| move |path: &Path| std::fs::write(path, &text).unwrap();
    let folder = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    };
    fails("tokenizer.json", &long(1 << 40), "larger than 64 MiB");
    fails("config.json", &long(1 << 40), "larger than 64 MiB");
    fails("config.json", &long(9 << 20), "larger than 8 MiB");
    fails("config.json", &text("[".repeat(1 << 20).into()), "recursion limit");
    fails("tokenizer.json", &text("[".repeat(1 << 20).into()), "");
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fails(file, &folder, "not a file");
    }
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[0; 64]].concat();
    let tensor = |shape: &str, end: u64| {
        header(&format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}"))
    };
    for bytes in [
        tensor("[1099511627776, 1099511627776]", 64),
        tensor("[4294967296, 4294967296]", 0),
        tensor("[1099511627776]", 1 << 42),
        tensor("[16]", u64::MAX),
        [&u64::MAX.to_le_bytes()[..], &[0; 64]].concat(),
        [&(1_u64 << 40).to_le_bytes()[..], &[0; 64]].concat(),
    ] {
        fails("model.safetensors", &text(bytes), "");
    }
}
