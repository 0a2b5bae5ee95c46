//! A request body: its model, its members, and where in its bytes they are.
//!
//! Owns the reading of the top level and the rewriting of `model`. Refuses to know what happens to the
//! request, and to hold anything in its place: the client's bytes stay as they are.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes};

use super::dialect::RequestDialect;
use super::fields::FieldNames;
use super::form::OuterBody;
use super::json::string::{decode, decodes_to};
use super::json::{self, ItemSpan, JsonError};
use super::prompt_prefix::PromptPrefix;
use super::segment::RequestTexts;
use super::{Api, Edit, Rejection, splice};

/// How many members the top level may have; the APIs name fewer than a hundred.
const MAX_MEMBERS: usize = 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The members that can hold the prompt, in order of preference.
const PROMPT_MEMBERS: [&str; 5] = ["messages", "prompt", "input", "query", "text_1"];

/// How many members of `metadata` are looked at.
const MAX_METADATA: usize = 32;

/// How long a key of `metadata` may be, in bytes.
const MAX_METADATA_KEY: usize = 128;

/// How long a value of `metadata` may be, in bytes.
const MAX_METADATA_VALUE: usize = 1024;

/// A parsed request: its bytes, its model, and the spans of its members.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    body: Bytes,
    members: Vec<ItemSpan>,
    model: Box<str>,
    /// The value of `model`, with its quotes.
    model_span: Range<usize>,
    is_stream: bool,
    /// Whether any string of the body has an escape.
    pub(super) has_escapes: bool,
    api: Api,
    /// Its texts, once they have been asked for; copies of the request share them.
    pub(super) texts: OnceLock<Arc<RequestTexts>>,
    /// The response that it goes on from, whose items it has.
    pub(super) resumed_from: Option<Arc<str>>,
    /// What goes upstream, where that is not the body.
    pub(super) outer: Option<OuterBody>,
    /// The blocks of its prompt, the same way.
    pub(super) prefix: OnceLock<Arc<PromptPrefix>>,
}

impl ChatRequest {
    /// Reads a body as one of Chat Completions.
    pub fn parse(body: Bytes) -> Result<Self, Rejection> {
        Self::of(Api::Chat, body)
    }

    /// Reads a body: only its top level is looked at, the rest is checked to be JSON without a key twice in an object.
    /// Of several members that can hold the prompt, the API's own does.
    pub fn of(api: Api, mut body: Bytes) -> Result<Self, Rejection> {
        if body.starts_with(BYTE_ORDER_MARK) {
            // Some editors and shells write it; no reader of JSON wants it.
            body.advance(BYTE_ORDER_MARK.len());
        }
        // Most bodies are ASCII, which is found out much faster.
        if !body.is_ascii()
            && let Err(error) = std::str::from_utf8(&body)
        {
            return Err(bad_json(&body, JsonError { at: error.valid_up_to(), detail: "not UTF-8" }));
        }
        let TopLevel { members, has_escapes } = TopLevel::read(&body)?;
        let is_model = |item: &&ItemSpan| decodes_to(&body[item.key.clone()], "model");
        let model_span = members.iter().find(is_model).ok_or(Rejection::MissingModel)?.value.clone();
        let inside = json::string(&body[model_span.clone()]).ok_or(Rejection::ModelNotString)?;
        if inside.is_empty() {
            return Err(Rejection::MissingModel);
        }
        let model = decode(inside, usize::MAX).into();
        // The value tells faster than the key.
        let is_true = |item: &ItemSpan| body[item.value.clone()] == *b"true";
        let mut flags = members.iter().filter(|item| is_true(item));
        let is_stream = flags.any(|item| decodes_to(&body[item.key.clone()], "stream"));
        Ok(Self {
            body,
            members,
            model,
            model_span,
            is_stream,
            has_escapes,
            api,
            resumed_from: None,
            outer: None,
            texts: OnceLock::new(),
            prefix: OnceLock::new(),
        })
    }

    /// Reads a body that may leave its model to us.
    pub fn of_any_model(api: Api, body: Bytes, model: Option<&str>) -> Result<Self, Rejection> {
        let Some(model) = model else { return Self::of(api, body) };
        match Self::of(api, body.clone()) {
            Err(Rejection::MissingModel) => {
                let open = body.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
                let mut named = [b"\"model\":", &*json::quoted(model)].concat();
                if !body[open..].trim_ascii_start().starts_with(b"}") {
                    named.push(b',');
                }
                Self::of(api, splice(&body, &[Edit { span: open..open, with: named }]))
            }
            read => read,
        }
    }

    /// Says whether it is a form, of whose files nothing is read.
    pub fn is_form(&self) -> bool {
        self.outer.is_some()
    }

    /// Reads this request's body with changes.
    pub(super) fn reparse(&self, body: Bytes) -> Result<Self, Rejection> {
        let (resumed_from, outer) = (self.resumed_from.clone(), self.outer.clone());
        Ok(Self { resumed_from, outer, ..Self::of(self.api, body)? })
    }

    /// Returns where requests of this API have what is read and changed.
    pub(super) fn dialect(&self) -> &'static RequestDialect {
        &self.api.dialect().request
    }

    /// Returns the API that it is a request of.
    pub fn api(&self) -> Api {
        self.api
    }

    /// Returns the model's name, decoded.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Says whether the answer is to come as a stream of events.
    pub fn stream(&self) -> bool {
        self.is_stream
    }

    /// Says whether the client asked for usage at the end of the stream.
    pub fn wants_usage(&self) -> bool {
        let options = self.member("stream_options").filter(|value| value.starts_with(b"{"));
        options.and_then(|options| json::member(options, "include_usage")) == Some(b"true")
    }

    /// Says whether its stream would say what it cost, and its client has not asked for that.
    pub fn leaves_usage_out(&self) -> bool {
        self.dialect().usage_is_opt_in && self.is_stream && !self.wants_usage()
    }

    /// Returns how many bytes it holds, those of its texts included once they were asked for.
    pub fn footprint(&self) -> usize {
        let outer = self.outer.as_ref().map_or(0, OuterBody::len);
        outer + self.body.len() * if self.texts.get().is_some() { 2 } else { 1 }
    }

    /// Returns the client's bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns a scalar member of the top level as text: a string decoded, a number or boolean as written.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        scalar(self.member(name)?)
    }

    /// Returns the id of the response that a request of the Responses API goes on from.
    pub fn previous_response(&self) -> Option<Cow<'_, str>> {
        matches!(self.api, Api::Responses | Api::StoredResponse)
            .then(|| self.field("previous_response_id"))
            .flatten()
    }

    /// Returns the id of the response that it goes on from and whose items are in its input.
    pub fn resumed_from(&self) -> Option<&str> {
        self.resumed_from.as_deref()
    }

    /// Returns a scalar of the first 32 members of `metadata` as text; nothing if the key is longer than 128 bytes or
    /// the value than 1024.
    pub fn metadata(&self, key: &str) -> Option<Cow<'_, str>> {
        let object = self.member("metadata").filter(|value| value.starts_with(b"{"))?;
        if key.len() > MAX_METADATA_KEY {
            return None;
        }
        let mut items = json::members(object, 0).map_while(Result::ok).take(MAX_METADATA);
        let found = items.find(|item| decodes_to(&object[item.key.clone()], key))?;
        scalar(&object[found.value]).filter(|text| text.len() <= MAX_METADATA_VALUE)
    }

    /// Returns the body with another model's name and every other byte as it was.
    pub fn with_model(&self, model: &str) -> Bytes {
        splice(&self.body, self.model_edit(model).as_slice())
    }

    /// Returns the bytes that go upstream, with another model's name; fails where they cannot follow a change.
    pub fn upstream_bytes(&self, model: &str) -> Result<Bytes, Rejection> {
        match &self.outer {
            Some(outer) => outer.with_model(&self.body, model),
            None => Ok(self.with_model(model)),
        }
    }

    /// Returns the edit that names another model; nothing if it is the same.
    pub fn model_edit(&self, model: &str) -> Option<Edit> {
        if *self.model == *model {
            return None;
        }
        Some(Edit { span: self.model_span.clone(), with: json::quoted(model) })
    }

    /// Returns the values that can hold the prompt, the API's own first.
    pub(super) fn prompt_values(&self) -> impl Iterator<Item = &[u8]> {
        let own = &self.dialect().prompt_member;
        let others = PROMPT_MEMBERS.iter().filter(move |name| *name != own);
        let values = std::iter::once(own).chain(others).filter_map(|name| self.member(name));
        values.filter(|value| matches!(value.first(), Some(b'"' | b'[')))
    }

    /// Returns the spans of the top level's members, in order; there is at least one.
    pub(super) fn members(&self) -> &[ItemSpan] {
        &self.members
    }

    /// Returns the members that are not null: their keys, decoded, and their values.
    pub(super) fn non_null_members(&self) -> impl Iterator<Item = (Cow<'_, str>, &[u8])> {
        let members =
            self.members.iter().map(|item| (&self.body[item.key.clone()], &self.body[item.value.clone()]));
        let given = members.filter(|(_, value)| *value != b"null");
        given.map(|(key, value)| (decode(key, usize::MAX), value))
    }

    /// Returns the value of a member.
    pub(super) fn member(&self, name: &str) -> Option<&[u8]> {
        let item = self.members.iter().find(|item| decodes_to(&self.body[item.key.clone()], name))?;
        Some(&self.body[item.value.clone()])
    }
}

/// What the one pass over a whole body finds.
struct TopLevel {
    members: Vec<ItemSpan>,
    has_escapes: bool,
}

impl TopLevel {
    fn read(body: &[u8]) -> Result<Self, Rejection> {
        let start = body.iter().position(|byte| !byte.is_ascii_whitespace());
        if start.is_some_and(|at| matches!(body[at], b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n')) {
            return Err(not_an_object(body));
        }
        let mut members = Vec::with_capacity(16);
        let mut items = json::observed_members(body, FieldNames::default());
        for item in items.by_ref() {
            let item = item.map_err(|error| bad_json(body, error))?;
            if members.len() == MAX_MEMBERS {
                return Err(bad_json(body, JsonError { at: item.key.start, detail: "too many members" }));
            }
            members.push(item);
        }
        let has_escapes = items.has_escapes();
        items.end().map_err(|error| bad_json(body, error))?.check()?;
        Ok(Self { members, has_escapes })
    }
}

/// Tells a JSON text that is not an object from one that is no JSON at all.
#[cold]
fn not_an_object(body: &[u8]) -> Rejection {
    json::document(body).map_or_else(|error| bad_json(body, error), |()| Rejection::NotAnObject)
}

/// Returns a scalar other than null as text: a string decoded, a number or boolean as written.
fn scalar(value: &[u8]) -> Option<Cow<'_, str>> {
    match value.first()? {
        b'{' | b'[' | b'n' => None,
        b'"' => Some(decode(json::string(value)?, usize::MAX)),
        _ => Some(decode(value, usize::MAX)),
    }
}

/// Turns an offset into a line and a column in characters.
#[cold]
fn bad_json(body: &[u8], error: JsonError) -> Rejection {
    let before = &body[..error.at.min(body.len())];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    let starts_character = |byte: &&u8| **byte & 0xc0 != 0x80;
    Rejection::BadJson {
        line: memchr::memchr_iter(b'\n', before).count() + 1,
        column: before[line_start..].iter().filter(starts_character).count() + 1,
        byte: error.at,
        detail: error.detail,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn parse(body: &str) -> Result<ChatRequest, Rejection> {
        ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes()))
    }

    fn parsed(body: &str) -> ChatRequest {
        parse(body).unwrap()
    }

    #[test]
    fn a_chat_request_tells_its_model_and_how_it_wants_its_answer() {
        let request = parsed(
            r#"{"model":"meta\/llama","stream":true,"stream_options":{"include_usage" : true},"user":"jo\u00e9","seed":1e400,"x":null,"logprobs":false}"#,
        );
        assert_eq!(request.model(), "meta/llama");
        assert!(request.stream() && request.wants_usage());
        assert_eq!(request.field("user").as_deref(), Some("joé"));
        assert_eq!(request.field("seed").as_deref(), Some("1e400"));
        assert_eq!(request.field("logprobs").as_deref(), Some("false"));
        for none in ["x", "stream_options", "nothing"] {
            assert_eq!(request.field(none), None);
        }
        let request = parsed(r#"{"model":"m","stream":"true","stream_options":null}"#);
        assert!(!request.stream() && !request.wants_usage());
    }

    #[test]
    fn a_byte_order_mark_is_taken_off() {
        let request = parsed("\u{feff}{\"model\":\"m\"}");
        assert_eq!((request.model(), &request.body()[..]), ("m", br#"{"model":"m"}"#.as_slice()));
    }

    #[test]
    fn of_several_texts_the_apis_own_tells_what_it_is_about() {
        let body = Bytes::from_static(
            br#"{"model":"m","messages":[{"role":"user","content":"harmless"}],"prompt":"the real one","input":"i"}"#,
        );
        let about = |api| ChatRequest::of(api, body.clone()).unwrap().prompt_text().into_owned();
        assert_eq!(about(Api::Chat), "harmless");
        assert_eq!(about(Api::Completions), "the real one");
        assert_eq!(about(Api::Responses), "i");
        assert_eq!(about(Api::Rerank), "harmless");
    }

    #[test]
    fn a_body_without_a_usable_model_says_what_is_missing() {
        let why = |body: &str| parse(body).unwrap_err();
        assert_eq!(why("{}"), Rejection::MissingModel);
        assert_eq!(why(r#"{"model":""}"#), Rejection::MissingModel);
        assert_eq!(why(r#"{"x":{"model":"m"}}"#), Rejection::MissingModel);
        for value in ["null", "1", "[\"m\"]", "{}", "true"] {
            assert_eq!(why(&format!("{{\"model\":{value}}}")), Rejection::ModelNotString);
        }
        for body in ["[]", "1", " \"{}\" ", "null", "[{\"model\":\"m\"}]"] {
            assert_eq!(why(body), Rejection::NotAnObject);
        }
    }

    #[test]
    fn a_field_that_two_readers_could_read_differently_is_refused() {
        for (body, name) in [
            (r#"{"model":"a","model":"b"}"#, "model"),
            (r#"{"model":"a","mod\u0065l":"a"}"#, "model"),
            (r#"{"model":"a","messages":[],"\u006dessages":[]}"#, "messages"),
            (r#"{"stream":true,"model":"a","stream":false}"#, "stream"),
            (r#"{"model":"a","system":"b","system":"c"}"#, "system"),
        ] {
            assert_eq!(parse(body).unwrap_err(), Rejection::DuplicateField { name: name.to_owned() });
        }
    }

    #[test]
    fn bad_json_is_refused_with_its_position() {
        let position = |body: &[u8]| match ChatRequest::parse(Bytes::copy_from_slice(body)).unwrap_err() {
            Rejection::BadJson { line, column, byte, detail } => (line, column, byte, detail),
            other => panic!("{other:?}"),
        };
        assert_eq!(position(b""), (1, 1, 0, "unexpected end"));
        assert_eq!(position(b"hello"), (1, 1, 0, "expected an array or an object"));
        assert_eq!(position("{\n \"é\": 1,\n}".as_bytes()), (3, 1, 12, "expected a key in double quotes"));
        assert_eq!(position("{\n \"é\": x}".as_bytes()), (2, 7, 9, "expected a value"));
        assert_eq!(position(b"{\"a\":\"\xff\"}"), (1, 7, 6, "not UTF-8"));
        assert_eq!(position(b"{\"model\":\"m\"} {"), (1, 15, 14, "trailing characters"));
        assert_eq!(position(b"[1,"), (1, 4, 3, "unexpected end"));
        assert_eq!(position(&b"[".repeat(1 << 20)).3, "nested too deeply");
        let many = format!("{{\"model\":\"m\"{}}}", ",\"\":0".repeat(MAX_MEMBERS));
        assert_eq!(position(many.as_bytes()).3, "too many members");
    }

    #[test]
    fn metadata_is_read_within_its_limits() {
        let request = parsed(
            r#"{"model":"m","metadata":{"pl\u0061n":"g\u006fld","seats":3,"on":true,"none":null,"deep":{}}}"#,
        );
        assert_eq!(request.metadata("plan").as_deref(), Some("gold"));
        assert_eq!(request.metadata("seats").as_deref(), Some("3"));
        assert_eq!(request.metadata("on").as_deref(), Some("true"));
        for none in ["none", "deep", "nothing"] {
            assert_eq!(request.metadata(none), None);
        }
        let many = (0..40).map(|key| format!("\"k{key}\":\"v\"")).collect::<Vec<_>>().join(",");
        let request = parsed(&format!("{{\"model\":\"m\",\"metadata\":{{{many}}}}}"));
        assert!(request.metadata("k31").is_some() && request.metadata("k32").is_none());
        let (key, value) = ("k".repeat(129), "v".repeat(1025));
        let request = parsed(&format!(
            "{{\"model\":\"m\",\"metadata\":{{\"{key}\":\"a\",\"a\":\"{value}\",\"b\":\"{}\"}}}}",
            &value[1..]
        ));
        assert!(request.metadata(&key).is_none() && request.metadata("a").is_none());
        assert_eq!(request.metadata("b").map(|text| text.len()), Some(1024));
        assert_eq!(parsed(r#"{"model":"m","metadata":["plan"]}"#).metadata("plan"), None);
    }

    #[test]
    fn the_same_model_is_no_copy() {
        let request = parsed(r#"{"model":"m\u0061"}"#);
        assert_eq!(request.with_model("ma").as_ptr(), request.body().as_ptr());
        assert_eq!(request.with_model("a\"b"), r#"{"model":"a\"b"}"#);
    }

    /// A JSON value as text, with numbers and escapes that a reader must not normalise.
    fn value() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "null",
            "true",
            "1e400",
            "1.10",
            "-0",
            "123456789012345678901234567890",
            "1E+5",
            "0.1e-7",
            r#""\u0041\/\ud83d\ude00""#,
            r#""\ud800""#,
            "\"é\u{2028}\"",
            r#""model""#,
            "[ ]",
            "{\t}",
        ]);
        word.prop_map(str::to_owned).prop_recursive(3, 12, 4, |inner| {
            prop::collection::vec((inner, space(), "[a-c]"), 0..4).prop_flat_map(|items| {
                any::<bool>().prop_map(move |object| {
                    let item = |(at, (value, space, key)): (usize, &(String, String, String))| {
                        if object {
                            format!("{space}\"{key}{at}\":{space}{value}")
                        } else {
                            format!("{space}{value}{space}")
                        }
                    };
                    let items = items.iter().enumerate().map(item).collect::<Vec<_>>().join(",");
                    if object { format!("{{{items}}}") } else { format!("[{items}]") }
                })
            })
        })
    }

    fn space() -> impl Strategy<Value = String> {
        "[ \t\r\n]{0,3}"
    }

    /// Members whose keys differ, also from those with another tag.
    fn members(tag: char) -> impl Strategy<Value = Vec<String>> {
        let key = prop_oneof!["[x-z]", Just("models".to_owned()), Just(r"\u006dodel".to_owned())];
        let member = (space(), key, space(), space(), value(), space());
        prop::collection::vec(member, 0..5).prop_map(move |members| {
            let member = |(at, (a, key, b, c, value, d)): (
                usize,
                &(String, String, String, String, String, String),
            )| { format!("{a}\"{key}{tag}{at}\"{b}:{c}{value}{d}") };
            members.iter().enumerate().map(member).collect()
        })
    }

    proptest! {
        #[test]
        fn only_the_models_name_changes(
            before in members('<'), after in members('>'), key in prop::sample::select(vec!["model", r"mod\u0065l"]),
            (a, b) in (space(), space()), old in ".{1,12}", new in ".{1,12}",
        ) {
            let before = [before, vec![format!("{b}\"{key}\"{a}:{b}")]].concat().join(",");
            let prefix = format!("{a}{{{before}");
            let suffix = format!("{}}}{b}", [vec![a], after].concat().join(","));
            let body = format!("{prefix}{}{suffix}", serde_json::to_string(&old).unwrap());
            let request = parsed(&body);
            prop_assert_eq!(request.model(), old.as_str());
            let changed = request.with_model(&new);
            prop_assert_eq!(&changed, &format!("{prefix}{}{suffix}", serde_json::to_string(&new).unwrap()));
            let again = ChatRequest::parse(changed).unwrap();
            prop_assert_eq!(again.model(), new.as_str());
            prop_assert_eq!(again.with_model(&old).len(), body.len());
        }

        #[test]
        fn nothing_a_client_sends_breaks_the_reader(body in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(request) = ChatRequest::parse(Bytes::from(body.clone())) {
                prop_assert!(serde_json::from_slice::<&RawValue>(&body).is_ok());
                request.prompt_text();
            }
        }
    }
}
