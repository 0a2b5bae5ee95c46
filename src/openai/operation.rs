//! What a request line asks for: an API that goes upstream, or the list of models.
//!
//! Owns paths that name no API and the decoding of models' names in them.

use http::Method;

use super::json::string::hex;
use super::resource::ResourceFamily;
use super::{Api, Rejection};

/// What a request asks this API to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A JSON request that names its model and goes upstream.
    Infer(Api),
    /// What is asked about a response that was made before, by its id.
    StoredResponse(String, ResponseAction),
    /// What a server keeps beside models.
    Resource(ResourceFamily),
    /// What is served here.
    Describe(Inventory),
}

/// What is asked about what is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inventory {
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{name}`; the name is percent-decoded and may contain slashes.
    Model(String),
    /// `GET /engines`, as the vLLM production stack has it.
    Engines,
    /// `GET /version`, as vLLM has it.
    Version,
}

/// What is asked about a response that was made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseAction {
    /// `GET /v1/responses/{id}`.
    Get,
    /// `DELETE /v1/responses/{id}`.
    Delete,
    /// `POST /v1/responses/{id}/cancel`.
    Cancel,
    /// `GET /v1/responses/{id}/input_items`.
    InputItems,
}

const MODELS: &str = "/v1/models";

const RESPONSES: &str = "/v1/responses/";

impl Operation {
    /// Finds the operation of a request line; `path` comes without its query.
    pub fn of(method: &Method, path: &str) -> Result<Self, Rejection> {
        let trimmed = path.trim_end_matches('/');
        if let Some(api) = Api::at(trimmed) {
            return allowing("POST", method, Self::Infer(api));
        }
        if let Some(stored) = stored_response(method, trimmed) {
            return stored;
        }
        if let Some(family) = ResourceFamily::at(path) {
            let is_known = matches!(method.as_str(), "GET" | "HEAD" | "POST" | "DELETE" | "PATCH" | "PUT");
            let allowed = "GET, POST, DELETE";
            return is_known.then_some(Self::Resource(family)).ok_or(Rejection::MethodNotAllowed { allowed });
        }
        match trimmed {
            "/engines" => return allowing("GET", method, Self::Describe(Inventory::Engines)),
            "/version" => return allowing("GET", method, Self::Describe(Inventory::Version)),
            _ => {}
        }
        let unknown = || match path.strip_prefix("/v1/v1/") {
            Some(_) => Rejection::DoubledPath { path: path.to_owned() },
            None => Rejection::UnknownPath { path: path.to_owned() },
        };
        match trimmed.strip_prefix(MODELS).ok_or_else(unknown)? {
            "" => allowing("GET", method, Self::Describe(Inventory::Models)),
            rest => {
                let name = rest.strip_prefix('/').and_then(percent_decoded).ok_or_else(unknown)?;
                allowing("GET", method, Self::Describe(Inventory::Model(name)))
            }
        }
    }
}

/// Gives the operation where it is asked for by its method, or by HEAD for GET: clients ask for the head of what they could
/// get, to see whether anybody is there.
fn allowing(allowed: &'static str, method: &Method, operation: Operation) -> Result<Operation, Rejection> {
    if method == allowed || (method == Method::HEAD && allowed == "GET") {
        return Ok(operation);
    }
    Err(Rejection::MethodNotAllowed { allowed })
}

/// Finds what is asked about a response by its id; nothing where the path, without slashes at its end, has none.
fn stored_response(method: &Method, path: &str) -> Option<Result<Operation, Rejection>> {
    let rest = path.strip_prefix(RESPONSES)?;
    let (id, below) = rest.split_once('/').map_or((rest, None), |(id, below)| (id, Some(below)));
    let id = percent_decoded(id).filter(|id| is_response_id(id))?;
    let (allowed, action) = match below {
        None if method == Method::DELETE => ("GET, DELETE", ResponseAction::Delete),
        None => ("GET, DELETE", ResponseAction::Get),
        Some("cancel") => ("POST", ResponseAction::Cancel),
        Some("input_items") => ("GET", ResponseAction::InputItems),
        Some(_) => return None,
    };
    let is_head = method == Method::HEAD && allowed.contains("GET");
    let is_allowed = is_head || allowed.split(", ").any(|allowed| method == allowed);
    let stored = Operation::StoredResponse(id, action);
    Some(if is_allowed { Ok(stored) } else { Err(Rejection::MethodNotAllowed { allowed }) })
}

/// Whether a text can be the id of a response: what goes upstream in a path has no more than that, and is no step in it.
fn is_response_id(id: &str) -> bool {
    (1..=256).contains(&id.len())
        && !id.bytes().all(|byte| byte == b'.')
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Returns the decoded value of a query's parameter, the first of that name; nothing if it has none, or one that is no text.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    percent_decoded(&value.replace('+', " "))
}

/// Decodes `%XX`; nothing if an escape is cut short, not hexadecimal, or the result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str) -> Result<Operation, Rejection> {
        Operation::of(&Method::POST, path)
    }

    fn get(path: &str) -> Result<Operation, Rejection> {
        Operation::of(&Method::GET, path)
    }

    #[test]
    fn every_path_that_names_a_model_is_known() {
        assert_eq!(post("/v1/chat/completions"), Ok(Operation::Infer(Api::Chat)));
        assert_eq!(post("/v1/chat/completions/"), Ok(Operation::Infer(Api::Chat)));
        assert_eq!(post("/v1/messages//"), Ok(Operation::Infer(Api::Messages)));
        assert_eq!(post("/rerank"), Ok(Operation::Infer(Api::Rerank)));
        for path in ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/messages/count_tokens", "/tokenize"] {
            assert!(matches!(post(path), Ok(Operation::Infer(_))), "{path}");
        }
    }

    #[test]
    fn a_model_is_asked_for_by_its_percent_decoded_name() {
        assert_eq!(get("/v1/models"), Ok(Operation::Describe(Inventory::Models)));
        assert_eq!(get("/v1/models/"), Ok(Operation::Describe(Inventory::Models)));
        assert_eq!(get("/v1/models/phi4/"), Ok(Operation::Describe(Inventory::Model("phi4".to_owned()))));
        assert_eq!(Operation::of(&Method::HEAD, "/v1/models"), Ok(Operation::Describe(Inventory::Models)));
        assert_eq!(
            get("/v1/models/llama3-8b"),
            Ok(Operation::Describe(Inventory::Model("llama3-8b".to_owned())))
        );
        for path in ["/v1/models/meta%2Fllama%203", "/v1/models/meta/llama%203", "/v1/models/meta%2fllama 3"]
        {
            assert_eq!(get(path), Ok(Operation::Describe(Inventory::Model("meta/llama 3".to_owned()))));
        }
    }

    #[test]
    fn engines_and_the_version_are_asked_for_with_get_alone() {
        assert_eq!(
            (get("/engines"), get("/version/")),
            (Ok(Operation::Describe(Inventory::Engines)), Ok(Operation::Describe(Inventory::Version)))
        );
        assert_eq!(post("/version"), Err(Rejection::MethodNotAllowed { allowed: "GET" }));
        for path in ["/sleep", "/wake_up", "/is_sleeping"] {
            assert_eq!(
                post(path),
                Err(Rejection::UnknownPath { path: path.to_owned() }),
                "that is the operator's"
            );
        }
    }

    #[test]
    fn an_unknown_path_is_not_found_and_a_wrong_method_names_the_right_one() {
        for path in [
            "/",
            "",
            "/v1",
            "/v1/chat",
            "/v1/responses/..",
            "/v1/responses/%2e%2e",
            "/v1/responses/./cancel",
            "/v1/modelsx",
            "/v1/models/%zz",
            "/v1/models/%f",
            "/v1/models/%ff",
        ] {
            assert_eq!(get(path), Err(Rejection::UnknownPath { path: path.to_owned() }));
        }
        assert_eq!(get("/v1/completions"), Err(Rejection::MethodNotAllowed { allowed: "POST" }));
        assert_eq!(post("/v1/models"), Err(Rejection::MethodNotAllowed { allowed: "GET" }));
        let doubled = "/v1/v1/chat/completions".to_owned();
        assert_eq!(post(&doubled), Err(Rejection::DoubledPath { path: doubled.clone() }));
    }
}
