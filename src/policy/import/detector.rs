//! Owns vLLM Semantic Router's hallucination detector: which model it is, and what its plugin becomes in a decision.
//! Refuses to know the other plugins.

use super::draft::PolicyDraft;
use super::source_node::SourceNode;
use super::yaml_writer::YamlMapping;

/// The folder that vSR's own downloads put its detector into, and where they have it from.
const OWN: (&str, &str) = ("mom-halugate-detector", "hf://KRLabsOrg/lettucedect-base-modernbert-en-v1");

/// A detector as a policy names it.
#[derive(Debug, Clone)]
pub(super) struct Detector {
    model: String,
    threshold: Option<f64>,
    remark: &'static str,
}

/// Reads the detector of the older dialects.
pub(super) fn legacy(root: &SourceNode<'_>) -> Option<Detector> {
    let module = root.get("hallucination_mitigation")?;
    let is_on = module.flag("enabled", "classifier.models.hallucination") == Some(true);
    without_explainer(&module, "nli_model");
    let detector = module.get("hallucination_model").filter(|_| is_on)?;
    read(&detector, None)
}

/// Reads the detector of the canonical dialect, whose path may stand among the system's models.
pub(super) fn canonical(catalog: &SourceNode<'_>) -> Option<Detector> {
    let module = catalog.at(&["modules", "hallucination_mitigation"])?;
    let is_on = module.flag("enabled", "classifier.models.hallucination") != Some(false);
    without_explainer(&module, "explainer");
    let detector = module.get("detector").filter(|_| is_on)?;
    if let Some(endpoint) = detector.get("endpoint").filter(|endpoint| endpoint.text() != Some("")) {
        endpoint.unsupported("answers are judged by a model in this process, not by another service");
        return None;
    }
    for key in ["min_span_length", "min_span_confidence"] {
        if let Some(node) = detector.get(key) {
            node.unsupported("every part of an answer that reaches the threshold counts");
        }
    }
    let path = catalog.at(&["system", "hallucination_detector"]);
    read(&detector, path.as_ref())
}

fn without_explainer(module: &SourceNode<'_>, key: &str) {
    if let Some(explainer) = module.get(key) {
        explainer.unsupported("no second model explains what the detector found");
    }
}

fn read(node: &SourceNode<'_>, path: Option<&SourceNode<'_>>) -> Option<Detector> {
    let to = "classifier.models.hallucination";
    let path = node.get("model_id").or_else(|| path.cloned())?;
    let named = path.text().filter(|text| !text.is_empty())?;
    let threshold = node.share("threshold", "classifier.thresholds.hallucination");
    path.mapped(to);
    if named.trim_end_matches('/').rsplit('/').next() == Some(OWN.0) {
        let remark = "The detector that vSR fetches into this folder, fetched from the Hugging Face hub.";
        return Some(Detector { model: OWN.1.to_owned(), threshold, remark });
    }
    let is_folder = named.starts_with(['.', '/']) || named.starts_with("models/");
    let is_repository = !is_folder && named.matches('/').count() == 1;
    let model = match named {
        named if is_repository => format!("hf://{named}"),
        named if named.starts_with(['.', '/']) => named.to_owned(),
        named => format!("./{named}"),
    };
    let remark = if is_repository {
        "Fetched from the Hugging Face hub."
    } else {
        "This folder must be there, relative to this file."
    };
    Some(Detector { model, threshold, remark })
}

/// Turns the plugin of a decision into what its guard of answers does.
pub(super) fn plugin(configuration: &SourceNode<'_>, draft: &mut PolicyDraft) -> YamlMapping {
    let to = "decisions[].plugins.answer.hallucination";
    let mut guard = YamlMapping::default();
    let action = match configuration.take("hallucination_action", to).as_deref() {
        Some("none") => "log",
        Some("body") => {
            in_a_header(configuration, "hallucination_action");
            "header"
        }
        _ => "header",
    };
    guard.put("action", action);
    let details = configuration.flag("include_hallucination_details", to);
    if details == Some(true) && action == "header" {
        guard.put("spans", true);
    }
    let wish = configuration.take("unverified_factual_action", to);
    if wish.as_deref() == Some("body") {
        in_a_header(configuration, "unverified_factual_action");
    }
    if matches!(wish.as_deref(), Some("header" | "body")) {
        if draft.flags.checks_facts {
            guard.put("unverified", true);
        } else if let Some(node) = configuration.get("unverified_factual_action") {
            node.unsupported("no `fact_check` signal tells where facts are needed");
        }
    }
    if configuration.flag("use_nli", to) == Some(true)
        && let Some(node) = configuration.get("use_nli")
    {
        node.unsupported("no second model explains what the detector found");
    }
    draft.flags.detects = true;
    guard
}

fn in_a_header(configuration: &SourceNode<'_>, key: &str) {
    if let Some(node) = configuration.get(key) {
        node.unsupported("answers go out as they are: headers tell");
    }
}

/// Names the detector in the policy, if a decision asks for it.
pub(super) fn put(detector: Option<Detector>, draft: &mut PolicyDraft) {
    let Some(Detector { model, threshold, remark }) = detector.filter(|_| draft.flags.detects) else {
        return;
    };
    let mut models = YamlMapping::default();
    models.put("hallucination", model).remark(remark);
    draft.classifier.put("models", models);
    if let Some(threshold) = threshold {
        draft.classifier.put_in("thresholds", "hallucination", threshold);
    }
}
