//! The guides' requests do what the guides say.

use crate::harness::*;
use signalbox::sim::{Flavour, Sim, tls::Authority};
use std::net::Ipv4Addr;
use tokio::net::TcpListener;

const LINUX: &str = "Linux is said to be an open source kernel because ";

/// The upstreams of the guides, and a gateway with one of the shipped policies in front of them.
struct Stage {
    gateway: Gateway,
    llama: [Sim; 2],
    phi: Sim,
    openai: Sim,
}

async fn stage(policy: &str) -> Stage {
    let text = std::fs::read_to_string(format!("{}/conf/{policy}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let llama = [sim("llama3-8b").await, sim("llama3-8b").await];
    let phi = sim("phi4-mini").await;
    let authority = Authority::new("test");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let options = signalbox::sim::SimOptions {
        models: vec!["gpt-4o-mini".to_owned()],
        api_key: Some("sk-right".to_owned()),
        flavour: Flavour::OpenAi,
        ..signalbox::sim::SimOptions::default()
    };
    let openai = Sim::start(options, listener, Some(authority.server_config(&["api.openai.com"]))).await;
    let launch = Launch::new(text)
        .variable("LLAMA_A", llama[0].addr().to_string())
        .variable("LLAMA_B", llama[1].addr().to_string())
        .variable("PHI", phi.addr().to_string())
        .variable("OPENAI_ADDRESS", openai.addr().to_string())
        .variable("OPENAI_API_KEY", "sk-right");
    let ca = launch.folder().join("ca.pem");
    std::fs::write(&ca, authority.ca_pem()).unwrap();
    let gateway = launch.variable("OPENAI_CA_FILE", ca.display().to_string()).start().await;
    Stage { gateway, llama, phi, openai }
}

#[tokio::test]
async fn a_named_model_answers_itself() {
    let stage = stage("quickstart.yaml").await;
    for model in ["llama3-8b", "phi4-mini"] {
        let answer = stage.gateway.chat(model, LINUX).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["model"], model);
        assert_eq!(answer.header("x-vsr-selected-model"), model);
        assert_eq!(answer.header("x-vsr-selected-category"), "", "nobody asked what it is about");
    }
    assert_eq!(asked(&stage.phi).len(), 1);
}

#[tokio::test]
async fn auto_and_mom_follow_what_the_prompt_is_about() {
    let stage = stage("quickstart.yaml").await;
    let cases = [
        (LINUX, "computer science", "llama3-8b"),
        ("2+2 is  ", "math", "phi4-mini"),
        ("What is 2+2 * (5-1)?", "math", "phi4-mini"),
        ("What is the derivative of f(x) = x^3 + 2x^2 - 5x + 7?", "math", "phi4-mini"),
    ];
    for name in ["auto", "MoM"] {
        for (prompt, category, model) in cases {
            let answer = stage.gateway.chat(name, prompt).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.header("x-vsr-selected-category"), category, "{prompt}");
            assert_eq!(answer.header("x-vsr-selected-model"), model, "{prompt}");
            assert_eq!(answer.json()["model"], model, "{prompt}");
        }
    }
    let llamas: usize = stage.llama.iter().map(|sim| asked(sim).len()).sum();
    assert_eq!((llamas, asked(&stage.phi).len()), (2, 6));
}

#[tokio::test]
async fn math_goes_to_openai_over_tls_with_a_key_that_clients_never_see() {
    let stage = stage("openai.yaml").await;
    for name in ["auto", "gpt-4o-mini"] {
        let answer = stage.gateway.chat(name, "2+2 is  ").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["model"], "gpt-4o-mini-2024-07-18");
        assert!(answer.json()["system_fingerprint"].as_str().unwrap().starts_with("fp_"));
        assert!(!format!("{answer:?}").contains("sk-right"));
    }
    let seen = asked(&stage.openai);
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].headers["authorization"], "Bearer sk-right");
    let local = stage.gateway.chat("auto", LINUX).await;
    assert_eq!(local.header("x-vsr-selected-model"), "llama3-8b");
    assert!(stage.llama.iter().flat_map(asked).all(|seen| !seen.headers.contains_key("authorization")));
    assert!(!(stage.gateway.stdout() + &stage.gateway.stderr()).contains("sk-right"));
}

#[tokio::test]
async fn completions_go_by_a_model_name_with_slashes() {
    let stage = stage("quickstart.yaml").await;
    for model in ["TheBloke/Llama-2-13B-chat-GPTQ", "meta-llama/Llama-2-7B-chat-hf"] {
        let body = format!(
            "{{ \"prompt\": \"San Francisco is a\", \n\"model\": \"{model}\", \"max_tokens\": 30, \"temperature\": 1}}"
        );
        let answer = stage.gateway.post("/v1/completions", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["object"], "text_completion");
        assert_eq!(answer.header("x-vsr-selected-model"), model);
        let one = client().get(stage.gateway.url(&format!("/v1/models/{model}"))).send().await.unwrap();
        assert_eq!(Answer::of(one).await.json()["id"], model);
    }
}

#[tokio::test]
async fn the_models_are_listed_as_openai_lists_them() {
    let stage = stage("quickstart.yaml").await;
    let list = Answer::of(client().get(stage.gateway.url("/v1/models")).send().await.unwrap()).await.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect();
    for id in ["auto", "MoM", "llama3-8b", "phi4-mini", "gpt-4o-mini"] {
        assert!(ids.contains(&id), "{id} in {ids:?}");
    }
}
