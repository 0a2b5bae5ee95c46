//! Responses as they are kept for requests that go on from them, where their upstreams keep none.
//!
//! Owns what a later request's input is then, and how a response is shown again. Refuses to know where they are kept,
//! for whom and for how long.

use bytes::Bytes;

use crate::json::object::{Object, array, elements, is_object, non_null_member, string_member};
use crate::json::{self, quoted};
use crate::operation::query_value;
use crate::{Api, ChatRequest, Edit, Rejection, change, splice};

/// How many items are listed where the client does not say.
const PAGE: usize = 20;

/// The most items that are listed at once.
const MAX_PAGE: usize = 100;

/// A response, and the items that it answers.
#[derive(Debug, Clone)]
pub struct StoredResponse {
    /// `{"input": [...], "response": {...}}`.
    json: Bytes,
}

impl StoredResponse {
    /// Puts a response together with the request that it answers; nothing if it is none.
    pub fn new(request: &ChatRequest, response: &[u8]) -> Option<Self> {
        if !is_object(response) || string_member(response, "object").as_deref() != Some("response") {
            return None;
        }
        let input = array(input_items(request));
        Some(Self { json: Object::default().raw("input", &input).raw("response", response).end().into() })
    }

    /// Reads what was kept; nothing if that is no response.
    pub fn read(json: Bytes) -> Option<Self> {
        let is_stored = is_object(&json)
            && non_null_member(&json, "input").is_some()
            && non_null_member(&json, "response").is_some();
        is_stored.then_some(Self { json })
    }

    /// Returns what is to be kept.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Returns the response as its client got it.
    pub fn response(&self) -> &[u8] {
        json::member(&self.json, "response").unwrap_or_default()
    }

    /// Returns its id; nothing if it has none.
    pub fn id(&self) -> Option<String> {
        string_member(self.response(), "id").map(std::borrow::Cow::into_owned)
    }

    /// Returns the items that a request which goes on from it begins with: those that it answers, and its own.
    fn items(&self) -> impl Iterator<Item = &[u8]> {
        let output = json::member(self.response(), "output").into_iter().flat_map(elements);
        self.input().chain(output)
    }

    fn input(&self) -> impl Iterator<Item = &[u8]> {
        json::member(&self.json, "input").into_iter().flat_map(elements)
    }

    /// Lists the items that it answers, as a query asks for them: `order`, `after` and `limit`.
    pub fn input_page(&self, query: &str) -> Vec<u8> {
        let of = self.id().unwrap_or_default();
        let bare = of.strip_prefix("resp_").unwrap_or(&of);
        let items = self.input().enumerate();
        let mut items: Vec<Vec<u8>> = items.map(|(at, item)| listed(item, &format!("{bare}_{at}"))).collect();
        if query_value(query, "order").as_deref() != Some("asc") {
            items.reverse();
        }
        let is_at = |id: &str, item: &[u8]| string_member(item, "id").as_deref() == Some(id);
        if let Some(after) = query_value(query, "after")
            && let Some(at) = items.iter().position(|item| is_at(&after, item))
        {
            items.drain(..=at);
        }
        let limit = query_value(query, "limit").and_then(|limit| limit.parse().ok());
        let limit = limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let id = |item: Option<&Vec<u8>>| {
            let id = item.and_then(|item| string_member(item, "id"));
            id.map_or_else(|| b"null".to_vec(), |id| quoted(&id))
        };
        Object::default()
            .text("object", "list")
            .raw("data", &array(&items))
            .raw("first_id", &id(items.first()))
            .raw("last_id", &id(items.last()))
            .raw("has_more", if has_more { b"true" } else { b"false" })
            .end()
    }
}

impl ChatRequest {
    /// Returns the request with the items of the response that it goes on from in its input, and without that one's id.
    pub fn resumed(&self, from: &StoredResponse) -> Result<Self, Rejection> {
        let own = input_items(self);
        let input = array(from.items().map(<[u8]>::to_vec).chain(own));
        let id = self.previous_response().map(std::borrow::Cow::into_owned);
        let mut edits: Vec<Edit> = change::set_member(self, "input", &input);
        edits.extend(change::set_member(self, "previous_response_id", b"null"));
        edits.sort_by_key(|edit| edit.span.start);
        let mut resumed = Self::of(Api::Responses, splice(self.body(), &edits))?;
        resumed.resumed_from = id.map(Into::into);
        Ok(resumed)
    }
}

/// The items of a request's input; of a text the message that it stands for.
fn input_items(request: &ChatRequest) -> Vec<Vec<u8>> {
    match request.member("input") {
        Some(text) if text.starts_with(b"\"") => {
            let part = Object::default().text("type", "input_text").raw("text", text).end();
            let message = Object::default().text("type", "message").text("role", "user");
            vec![message.raw("content", &array([part])).end()]
        }
        Some(items) => json::array(items).map(<[u8]>::to_vec).collect(),
        None => Vec::new(),
    }
}

/// An item as it is listed: with an id, its own or one by its place, and a message written out that was sent in short.
fn listed(item: &[u8], place: &str) -> Vec<u8> {
    let content = json::member(item, "content").filter(|content| content.starts_with(b"\""));
    let (Some(text), Some(role)) = (content, string_member(item, "role")) else {
        return with_id(item, place);
    };
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    let part = Object::default().text("type", kind).raw("text", text);
    let part = if role == "assistant" { part.raw("annotations", b"[]") } else { part };
    let message = Object::default().text("type", "message").text("status", "completed").text("role", &role);
    let own = json::member(item, "id").into_iter().fold(message, |message, id| message.raw("id", id));
    with_id(&own.raw("content", &array([part.end()])).end(), place)
}

/// An item with an id: its own, or one by its place.
fn with_id(item: &[u8], place: &str) -> Vec<u8> {
    if !is_object(item) || non_null_member(item, "id").is_some() {
        return item.to_vec();
    }
    let prefix = match string_member(item, "type").as_deref() {
        None | Some("message") => "msg",
        Some("function_call" | "function_call_output") => "fc",
        _ => "item",
    };
    let id = [b"{\"id\":", &*quoted(&format!("{prefix}_{place}"))].concat();
    let rest = item.trim_ascii_start().get(1..).unwrap_or_default();
    let comma: &[u8] = if rest.trim_ascii_start().starts_with(b"}") { b"" } else { b"," };
    [&id, comma, rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn request(body: &Value) -> ChatRequest {
        ChatRequest::of(Api::Responses, body.to_string().into()).unwrap()
    }

    fn stored(input: &Value) -> StoredResponse {
        let output = json!([{"type": "message", "id": "msg_1", "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello"}]}]);
        let response = json!({"id": "resp_1", "object": "response", "output": output}).to_string();
        let kept = StoredResponse::new(&request(&json!({"model": "m", "input": input})), response.as_bytes())
            .unwrap();
        StoredResponse::read(kept.json().clone()).unwrap()
    }

    #[test]
    fn a_request_goes_on_with_all_that_was_said() {
        let kept = stored(&json!("hi"));
        let next = request(&json!({"model": "m", "previous_response_id": "resp_1", "temperature": 1.5,
            "input": [{"role": "user", "content": "and?"}]}));
        let resumed = next.resumed(&kept).unwrap();
        let body: Value = serde_json::from_slice(resumed.body()).unwrap();
        assert_eq!(body["previous_response_id"], Value::Null);
        assert_eq!(
            body["input"],
            json!([
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
            {"role": "user", "content": "and?"}])
        );
        assert_eq!((resumed.previous_response(), resumed.resumed_from()), (None, Some("resp_1")));
        assert!(String::from_utf8_lossy(resumed.body()).contains(r#""temperature":1.5"#));
    }

    #[test]
    fn items_are_listed_by_page_each_with_an_id() {
        let kept = stored(
            &json!([{"role": "user", "content": "a"}, {"type": "function_call", "id": "fc_x", "name": "f"}, {}]),
        );
        let page = |query: &str| -> Value { serde_json::from_slice(&kept.input_page(query)).unwrap() };
        let all = page("order=asc");
        let ids = |page: &Value| {
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&all), ["msg_1_0", "fc_x", "msg_1_2"]);
        let text = json!({"type": "input_text", "text": "a"});
        let said = json!({"id": "msg_1_0", "type": "message", "status": "completed", "role": "user", "content": [text]});
        assert_eq!(all["data"][0], said, "as OpenAI lists it, however it was sent");
        assert_eq!(
            (&all["first_id"], &all["last_id"], &all["has_more"]),
            (&json!("msg_1_0"), &json!("msg_1_2"), &json!(false))
        );
        assert_eq!(ids(&page("")), ["msg_1_2", "fc_x", "msg_1_0"]);
        let one = page("limit=1&after=msg_1_2");
        assert_eq!((ids(&one), &one["has_more"]), (vec!["fc_x".to_owned()], &json!(true)));
    }

    #[test]
    fn what_is_no_response_is_not_kept() {
        for text in ["{}", "[]", "x", r#"{"object":"chat.completion"}"#] {
            assert!(StoredResponse::new(&request(&json!({"model": "m"})), text.as_bytes()).is_none());
            assert!(StoredResponse::read(Bytes::from_static(text.as_bytes())).is_none());
        }
    }
}
