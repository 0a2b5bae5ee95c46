//! Owns what the API says of itself: its paths, the models in memory, and what the policy in force makes of them.

use super::{Admin, PATHS};
use crate::classify::{ClassifyHead, ModelInfo, pii_kinds};
use crate::policy::{DomainSignal, Policy, Rule, SignalKind};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "healthy", "service": "classification-api"}))
}

pub(super) async fn index() -> Json<Value> {
    let endpoints: Vec<Value> = PATHS
        .iter()
        .map(|one| json!({"path": one.path, "method": one.method, "description": one.description}))
        .collect();
    Json(json!({
        "service": "Signalbox classification API",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "What the classifier in this process says of a text, in the shapes of vLLM Semantic Router's API",
        "endpoints": endpoints,
        "task_types": [
            {"name": "intent", "description": "What a text is about"},
            {"name": "pii", "description": "Which personal data it holds"},
            {"name": "security", "description": "Whether it attacks the model that reads it"},
        ],
        "links": {"models": "/info/models", "classifier": "/info/classifier", "metrics": "/metrics"},
    }))
}

#[derive(Serialize)]
pub(super) struct Models {
    models: Vec<ModelEntry>,
    system: System,
}

#[derive(Serialize)]
struct ModelEntry {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    loaded: bool,
    #[serde(rename = "model_path")]
    path: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    metadata: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct System {
    version: &'static str,
    architecture: &'static str,
    os: &'static str,
    memory_usage: String,
    gpu_available: bool,
}

pub(super) async fn models(State(admin): State<Admin>) -> Json<Models> {
    let loaded = admin.live.load().classifier.models();
    let system = System {
        version: env!("CARGO_PKG_VERSION"),
        architecture: std::env::consts::ARCH,
        os: std::env::consts::OS,
        memory_usage: format!("{:.2} MB", loaded.iter().map(|model| model.bytes).sum::<usize>() as f64 / 1e6),
        gpu_available: loaded.iter().any(|model| model.device.starts_with("cuda")),
    };
    let models = ClassifyHead::ALL.into_iter().filter_map(|question| {
        let model = answering(&loaded, question)?;
        Some(describe(model, question))
    });
    Json(Models { models: models.collect(), system })
}

fn describe(model: &ModelInfo, question: ClassifyHead) -> ModelEntry {
    let (name, kind) = match question {
        ClassifyHead::Domain => ("category_classifier", "intent_classification"),
        ClassifyHead::Jailbreak => ("jailbreak_classifier", "security_detection"),
        ClassifyHead::Pii => ("pii_classifier", "pii_detection"),
        ClassifyHead::Embedding => ("similarity_model", "similarity"),
        ClassifyHead::Hallucination => ("hallucination_detector", "hallucination_detection"),
        ClassifyHead::Paraphrase => ("paraphrase_detector", "paraphrase_detection"),
    };
    let metadata = BTreeMap::from([
        ("model_type", model.family.to_owned()),
        ("device", model.device.clone()),
        ("dtype", model.dtype.to_owned()),
        ("parameters", model.parameters.to_string()),
        ("bytes", model.bytes.to_string()),
        ("max_tokens", model.max_tokens.to_string()),
        ("width", model.width.to_string()),
        ("load_time_ms", model.load_time.as_millis().to_string()),
    ]);
    let categories = model.label_names(question);
    ModelEntry { name, kind, loaded: true, path: model.source.clone(), categories, metadata }
}

pub(super) async fn classifier(State(admin): State<Admin>) -> Json<Value> {
    let live = admin.live.load();
    let (policy, loaded) = (&live.policy, live.classifier.models());
    let can = |question| answering(&loaded, question).is_some();
    let capabilities = [
        (ClassifyHead::Domain, "intent_classification"),
        (ClassifyHead::Pii, "pii_detection"),
        (ClassifyHead::Jailbreak, "security_detection"),
        (ClassifyHead::Embedding, "similarity_matching"),
        (ClassifyHead::Hallucination, "hallucination_detection"),
    ];
    let capabilities: Vec<&str> =
        capabilities.into_iter().filter(|(question, _)| can(*question)).map(|(_, name)| name).collect();
    let least = policy.classifier.min_confidence.fraction();
    let categories: Vec<Value> =
        live.classifier.labels().iter().map(|label| json!({"name": &**label, "threshold": least})).collect();
    let decisions = policy.decisions().map(|decision| {
        json!({
            "name": decision.name,
            "description": decision.description,
            "priority": decision.priority,
            "domains": domains(policy, &decision.when.rule),
            "models": decision.models.iter().map(|one| policy[one.model].name.as_str()).collect::<Vec<&str>>(),
        })
    });
    Json(json!({
        "status": "active",
        "capabilities": capabilities,
        "categories": categories,
        "decisions": decisions.collect::<Vec<Value>>(),
        "pii_types": pii_kinds(&live.classifier.models()),
        "security": {"jailbreak_detection": can(ClassifyHead::Jailbreak), "enabled": can(ClassifyHead::Jailbreak)},
        "performance": {"queued": live.classifier.queued()},
        "configuration": {
            "category_threshold": least,
            "deadline_ms": policy.classifier.deadline.as_millis() as u64,
            "policy_generation": live.generation,
        },
    }))
}

/// The domains that a rule names.
fn domains<'a>(policy: &'a Policy, rule: &Rule) -> Vec<&'a str> {
    let mut domains = Vec::new();
    rule.signals(&mut |id| {
        if let SignalKind::Domain(DomainSignal { any, .. }) = &policy[id].kind {
            domains.extend(any.iter().map(String::as_str));
        }
    });
    domains
}

/// The model that answers a question.
pub(super) fn answering(models: &[ModelInfo], question: ClassifyHead) -> Option<&ModelInfo> {
    models.iter().find(|model| model.heads.has(question))
}
