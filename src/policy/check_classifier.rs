//! Owns what the classifier's settings mean together. Refuses to know what its models can do: loading them tells.

use super::check_secret::{SecretFault, secret};
use super::checker::Checker;
use super::issue::Path;
use super::raw_classifier::{
    RawClassifier, RawClassifierModels, RawDevice, RawHub, RawOnUnknown, RawPrecision, RawThresholds,
    RawToken,
};
use super::{
    BasisPoints, ClassifierDevice, ClassifierModel, ClassifierModels, ClassifierPrecision, ClassifierSpec,
    HubSpec, OnUnknown, Secret, Thresholds,
};

/// How a model of the hub is written.
const HUB: &str = "hf://";
const HUB_ENDPOINT: &str = "https://huggingface.co";
/// The revision of whoever names none.
const REVISION: &str = "main";
/// The longest name of an owner, a repository or a part of a revision; the hub's own bound is the same.
const MAX_NAME_BYTES: usize = 96;

/// Turns the raw classifier into the final one.
pub(super) fn classifier(raw: &RawClassifier, path: &Path, checker: &mut Checker<'_>) -> ClassifierSpec {
    let model = source(&raw.model, &path.key("model"), checker);
    let models = models(&raw.models, &path.key("models"), checker);
    if raw.overlap > raw.window / 2 {
        let message = format!("must be at most half of `window`, {}; it is {}", raw.window / 2, raw.overlap);
        checker.issue(&path.key("overlap"), message);
    }
    let placed = [&models.domain, &models.jailbreak, &models.pii, &models.embedding, &models.hallucination];
    let is_fetched = placed
        .into_iter()
        .flatten()
        .chain([&model])
        .any(|model| matches!(model, ClassifierModel::Hub { .. }));
    let precision = match raw.precision {
        RawPrecision::Auto => ClassifierPrecision::Auto,
        RawPrecision::F32 => ClassifierPrecision::F32,
        RawPrecision::F16 => ClassifierPrecision::F16,
        RawPrecision::Bf16 => ClassifierPrecision::Bf16,
    };
    if raw.device == RawDevice::Cpu
        && matches!(precision, ClassifierPrecision::F16 | ClassifierPrecision::Bf16)
    {
        checker.issue(
            &path.key("precision"),
            "`device` is `cpu`, which computes in `f32`; write that, or `device: auto`",
        );
    }
    ClassifierSpec {
        device: match raw.device {
            RawDevice::Cpu => ClassifierDevice::Cpu,
            RawDevice::Cuda => ClassifierDevice::Cuda,
            RawDevice::Auto => ClassifierDevice::Auto,
        },
        precision,
        min_confidence: BasisPoints::from_fraction(raw.min_confidence),
        thresholds: thresholds(&raw.thresholds),
        deadline: checker.positive(&path.key("deadline"), raw.deadline),
        threads: raw.threads,
        queue: raw.queue,
        max_tokens: raw.max_tokens,
        domain_tokens: raw.domain_tokens.min(raw.max_tokens),
        window: raw.window,
        overlap: raw.overlap,
        batch_tokens: raw.batch_tokens,
        cache: raw.cache,
        on_unknown: match raw.on_unknown {
            RawOnUnknown::Default => OnUnknown::Default,
            RawOnUnknown::Reject => OnUnknown::Reject,
        },
        hub: hub(&raw.hub, is_fetched, &path.key("hub"), checker),
        model,
        models,
    }
}

fn thresholds(raw: &RawThresholds) -> Thresholds {
    Thresholds {
        jailbreak: raw.jailbreak.map(BasisPoints::from_fraction),
        pii: raw.pii.map(BasisPoints::from_fraction),
        hallucination: raw.hallucination.map(BasisPoints::from_fraction),
    }
}

fn models(raw: &RawClassifierModels, path: &Path, checker: &mut Checker<'_>) -> ClassifierModels {
    if raw.hallucination.as_deref() == Some("builtin") {
        checker.issue(
            &path.key("hallucination"),
            "no detector is built in; write a folder or `hf://owner/name`",
        );
    }
    let mut placed = |question: &str, text: &Option<String>| {
        text.as_deref().map(|text| source(text, &path.key(question), checker))
    };
    ClassifierModels {
        domain: placed("domain", &raw.domain),
        jailbreak: placed("jailbreak", &raw.jailbreak),
        pii: placed("pii", &raw.pii),
        embedding: placed("embedding", &raw.embedding),
        hallucination: placed("hallucination", &raw.hallucination),
    }
}

/// Reads where a model comes from: `builtin`, a folder, or the hub.
fn source(text: &str, path: &Path, checker: &mut Checker<'_>) -> ClassifierModel {
    if text == "builtin" {
        return ClassifierModel::Builtin;
    }
    if let Some(name) = text.strip_prefix(HUB) {
        let (repo, revision) = name.split_once('@').unwrap_or((name, REVISION));
        if !is_repo(repo) {
            checker.issue(path, format!("`{text}` names no repository; write `{HUB}owner/name`"));
        } else if !revision.split('/').all(is_revision_part) {
            checker
                .issue(path, format!("`{text}` has no revision behind its `@`: a branch, a tag or a commit"));
        }
        return ClassifierModel::Hub { repo: repo.to_owned(), revision: revision.to_owned() };
    }
    if text.starts_with("hf:") || text.contains("://") {
        let message =
            format!("`{text}` is neither `builtin` nor a folder; a model of the hub is `{HUB}owner/name`");
        checker.issue(path, message);
    } else if !text.contains(['/', '\\', '.']) {
        checker.issue(path, format!("`{text}` is not `builtin`; write `./{text}` for a folder"));
    }
    ClassifierModel::Folder(checker.resolve(text))
}

/// Whether a text is an owner and a name, as the hub allows them.
fn is_repo(text: &str) -> bool {
    let fits = |part: &str| {
        is_revision_part(part)
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    text.split_once('/').is_some_and(|(owner, name)| fits(owner) && fits(name))
}

/// Whether a text is a part of a branch's, a tag's or a commit's name that is safe in a path and in an address.
fn is_revision_part(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && !text.contains("..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
}

/// Takes the hub's settings; the environment's stand in where a model is fetched and the policy says nothing.
fn hub(raw: &RawHub, is_fetched: bool, path: &Path, checker: &mut Checker<'_>) -> HubSpec {
    let set = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let from = |name: &str, checker: &Checker<'_>| set(checker.var(name).filter(|_| is_fetched));
    let endpoint = set(raw.endpoint.clone()).or_else(|| from("HF_ENDPOINT", checker));
    let endpoint = endpoint.as_deref().unwrap_or(HUB_ENDPOINT).trim_end_matches('/');
    if !is_endpoint(endpoint) {
        checker.issue(
            &path.key("endpoint"),
            "must be `http://host` or `https://host`, without a user or a query",
        );
    }
    let token = match &raw.token {
        Some(raw) => token(raw, &path.key("token"), checker),
        None => from("HF_TOKEN", checker),
    };
    let token = token.map(|token| token.trim().to_owned());
    if token.as_ref().is_some_and(|token| http::HeaderValue::from_str(token).is_err()) {
        checker.issue(&path.key("token"), "the secret has characters that a header cannot carry");
    }
    HubSpec {
        endpoint: endpoint.to_owned(),
        cache: set(raw.cache.clone()).map(|folder| checker.resolve(&folder)),
        token: token.map(Secret::new),
    }
}

fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let is_web = uri.scheme_str().is_some_and(|scheme| matches!(scheme, "http" | "https"));
    let has_host = uri
        .authority()
        .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    is_web && has_host && uri.query().is_none() && !text.contains('#')
}

fn token(raw: &RawToken, path: &Path, checker: &mut Checker<'_>) -> Option<String> {
    let (path, token) = match raw {
        RawToken::Text(_) if !checker.is_expanded(path) => {
            checker.issue(path, "a secret must not stand in a policy; write `${NAME}` or `{file: PATH}`");
            return None;
        }
        RawToken::Text(text) if text.trim().is_empty() => return None,
        RawToken::Text(text) => (path.clone(), Ok(text.clone())),
        RawToken::Place(place) => secret(place, path, checker),
    };
    token.map_err(|fault: SecretFault| checker.issue(&path, fault.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_an_owner_and_a_name() {
        for repo in ["owner/name", "a/b", "llm-semantic-router/mmbert32k.v1_x"] {
            assert!(is_repo(repo), "{repo}");
        }
        for repo in
            ["name", "/name", "owner/", "a/b/c", "../b", "a/..", "a b/c", "a/b?x", "-a/b", "a/b--c", "a/é"]
        {
            assert!(!is_repo(repo), "{repo}");
        }
    }

    #[test]
    fn an_endpoint_is_a_place_without_a_secret_in_it() {
        for endpoint in
            ["https://huggingface.co", "http://127.0.0.1:8080", "https://mirror.example/hf", "http://[::1]:1"]
        {
            assert!(is_endpoint(endpoint), "{endpoint}");
        }
        for endpoint in [
            "huggingface.co",
            "ftp://a",
            "https://",
            "https://user:pw@a",
            "https://a?b=c",
            "https://a#b",
            "/x",
        ] {
            assert!(!is_endpoint(endpoint), "{endpoint}");
        }
    }
}
