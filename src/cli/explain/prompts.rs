//! Owns where prompts come from: arguments, standard input, files; each becomes the request that a client would send.

use super::super::Failure;
use crate::openai::ChatRequest;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;

/// A prompt as a request.
#[derive(Debug)]
pub(super) struct ExplainPrompt {
    /// Its line in the file, from 1.
    pub(super) line: Option<usize>,
    pub(super) request: ChatRequest,
}

/// Reads all prompts; `model` is that of prompts without one.
pub(super) fn read(
    arguments: &[String],
    file: Option<&Path>,
    model: &str,
) -> Result<Vec<ExplainPrompt>, Failure> {
    let mut prompts = Vec::new();
    for argument in arguments {
        if argument == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
            prompts.extend(lines(&text, "standard input", model)?);
        } else {
            prompts.push(ExplainPrompt { line: None, request: request(user_message(argument), model)? });
        }
    }
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        prompts.extend(lines(&text, &path.display().to_string(), model)?);
    }
    if prompts.is_empty() {
        return Err("there is no prompt".into());
    }
    Ok(prompts)
}

/// Cuts a file into prompts, one a line: a JSON object or a plain text.
fn lines(text: &str, name: &str, model: &str) -> Result<Vec<ExplainPrompt>, Failure> {
    let mut prompts = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let members = if is_json(line) { members(line) } else { Ok(user_message(line)) };
        let request = members.and_then(|members| request(members, model));
        let request = request.map_err(|fault| format!("{name}, line {}: {fault}", at + 1))?;
        prompts.push(ExplainPrompt { line: Some(at + 1), request });
    }
    Ok(prompts)
}

/// Whether a line is a JSON object, or the beginning of one that is broken; prose may have braces too.
fn is_json(line: &str) -> bool {
    let after_brace = line.trim_start().strip_prefix('{').map(str::trim_start);
    after_brace.is_some_and(|rest| rest.starts_with(['"', '}']))
}

/// Finds the request in a JSON line.
fn members(line: &str) -> Result<Map<String, Value>, Failure> {
    let mut object: Map<String, Value> = serde_json::from_str(line)?;
    if let Some(Value::Object(body)) = object.get_mut("body") {
        return Ok(std::mem::take(body));
    }
    if object.contains_key("messages") {
        return Ok(object);
    }
    match object.get("text") {
        Some(Value::String(text)) => Ok(user_message(text)),
        _ => Err("none of `text`, `messages` and `body` is there".into()),
    }
}

/// The members of a request with one user message.
fn user_message(text: &str) -> Map<String, Value> {
    Map::from_iter([("messages".to_owned(), json!([{"role": "user", "content": text}]))])
}

fn request(mut members: Map<String, Value>, model: &str) -> Result<ChatRequest, Failure> {
    members.entry("model").or_insert_with(|| model.into());
    Ok(ChatRequest::parse(serde_json::to_vec(&members)?.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<(String, String, Option<usize>)> {
        let prompts = lines(file, "f", "auto").unwrap();
        let text = |prompt: &ExplainPrompt| prompt.request.prompt_text().into_owned();
        prompts.iter().map(|prompt| (prompt.request.model().to_owned(), text(prompt), prompt.line)).collect()
    }

    #[test]
    fn plain_lines_are_prompts_even_with_braces_in_them() {
        let expected = [("2+2", 1), ("{x | x > 0}", 3)];
        let expected = expected.map(|(text, line)| ("auto".to_owned(), text.to_owned(), Some(line)));
        assert_eq!(texts("2+2\n\n{x | x > 0}\n"), expected);
    }

    #[test]
    fn plain_and_json_lines_may_stand_together() {
        let expected = [("plain", 1), ("one", 2), ("{x}", 4)];
        let expected = expected.map(|(text, line)| ("auto".to_owned(), text.to_owned(), Some(line)));
        assert_eq!(texts("\u{feff}plain\r\n {\"text\":\"one\"}\n\n{x}"), expected);
    }

    #[test]
    fn json_lines_hold_a_text_a_request_or_a_body() {
        let file = "{\"text\":\"one\\ntwo\",\"label\":1}\n\
                    {\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"}]}\n\
                    {\"custom_id\":\"a\",\"body\":{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"b\"}]}}\n";
        let expected = [("auto", "one\ntwo", 1), ("auto", "u", 2), ("m", "b", 3)];
        let expected = expected.map(|(model, text, line)| (model.to_owned(), text.to_owned(), Some(line)));
        assert_eq!(texts(file), expected);
    }

    #[test]
    fn a_bad_json_line_is_named() {
        let fault = |file| lines(file, "f", "auto").unwrap_err().to_string();
        assert!(fault("plain\n{\"text\":\"a").starts_with("f, line 2: "));
        assert_eq!(fault("{\"txt\":\"a\"}"), "f, line 1: none of `text`, `messages` and `body` is there");
        assert!(fault("{\"text\":\"a\"}\n\n{\"messages\":1,\"model\":2}").starts_with("f, line 3: "));
    }
}
