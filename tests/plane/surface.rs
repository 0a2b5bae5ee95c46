//! The rest of the surface: uploads, moderations, files and batches, and providers with paths of their own.

use crate::harness::{Answer, Gateway, Launch, client, command, policy_of, printed};
use crate::raw::{Act, Message, Scripted, answer};
use reqwest::Method;
use serde_json::{Value, json};

async fn upstream() -> Scripted {
    Scripted::start(|_, _| {
        Act::Answer(answer(
            "200 OK",
            r#"{"id":"x","text":"hello","usage":{"prompt_tokens":5,"completion_tokens":2}}"#,
        ))
    })
    .await
}

fn form(parts: &[(&str, &str)]) -> String {
    let part = |(disposition, value): &(&str, &str)| {
        format!("--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n")
    };
    parts.iter().map(part).collect::<String>() + "--B--\r\n"
}

async fn upload(gateway: &Gateway, path: &str, body: String) -> Answer {
    let request = client().post(gateway.url(path)).header("content-type", "multipart/form-data; boundary=B");
    Answer::of(request.body(body).send().await.unwrap()).await
}

fn line(message: &Message) -> &str {
    message.head.lines().next().unwrap()
}

#[tokio::test]
async fn an_upload_goes_by_the_model_that_its_form_names() {
    let (main, other) = (upstream().await, upstream().await);
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: chat\ndefault_for: {{transcription: whisper}}\nmodels:\n  whisper: {{pools: [sound], \
         upstream_model: openai/whisper-3, aliases: [whisper-1]}}\n  chat: {{pools: [other]}}\npools:\n  sound: {{endpoints: [\"{}\"], health: {{enabled: \
         false}}}}\n  other: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n",
        main.addr, other.addr
    );
    let gateway =
        Launch::new(policy).server("limits: {max_body_bytes: 100000}\ndrain: {delay: 0s}\n").start().await;
    let sound = "RIFF\u{0}\r\n--not the boundary\r\n";
    for model in ["whisper", "whisper-1", "auto"] {
        let body = form(&[
            ("name=\"file\"; filename=\"a.wav\"", sound),
            ("name=\"model\"", model),
            ("name=\"response_format\"", "json"),
        ]);
        let got = upload(&gateway, "/v1/audio/transcriptions?x=1", body.clone()).await;
        assert_eq!((got.status, got.json()["text"].as_str()), (200, Some("hello")), "{}", got.text);
        let seen = main.requests().pop().unwrap();
        assert_eq!(line(&seen), "POST /v1/audio/transcriptions?x=1 HTTP/1.1");
        assert_eq!(seen.header("content-type"), "multipart/form-data; boundary=B");
        let sent = body.replace(&format!("\r\n\r\n{model}\r\n"), "\r\n\r\nopenai/whisper-3\r\n");
        assert_eq!(String::from_utf8(seen.body).unwrap(), sent);
    }
    assert!(other.requests().is_empty());
    for (body, status, code) in [
        (form(&[("name=\"file\"; filename=\"a\"", sound)]), 400, "model_required"),
        (form(&[("name=\"model\"", "nobody")]), 404, "model_not_found"),
        (form(&[("name=\"model\"", "whisper"), ("name=\"model\"", "chat")]), 400, "duplicate_field"),
        ("--B\r\nhello".to_owned(), 400, "invalid_form"),
        (
            form(&[("name=\"file\"; filename=\"a\"", &"x".repeat(100_000)), ("name=\"model\"", "whisper")]),
            413,
            "request_too_large",
        ),
    ] {
        let got = upload(&gateway, "/v1/audio/translations", body).await;
        assert_eq!((got.status, got.json()["error"]["code"].as_str()), (status, Some(code)), "{}", got.text);
    }
    assert!(main.requests().is_empty());
    let json =
        gateway.post("/v1/images/edits", json!({"model": "whisper", "prompt": "a cat"}).to_string()).await;
    assert_eq!(
        (json.status, line(&main.requests()[0])),
        (200, "POST /v1/images/edits HTTP/1.1"),
        "{}",
        json.text
    );
}

#[tokio::test]
async fn what_a_guard_would_mask_in_a_form_is_not_sent() {
    let main = upstream().await;
    let policy = policy_of(&[main.addr], "") + "guards: {pii: {action: mask}}\n";
    let gateway = Launch::new(policy).start().await;
    let body = form(&[("name=\"model\"", "m"), ("name=\"prompt\"", "Mail ann@example.org and paint her.")]);
    let got = upload(&gateway, "/v1/images/edits", body).await;
    assert_eq!(got.status, 422, "{}", got.text);
    assert!(main.requests().is_empty());
}

#[tokio::test]
async fn moderations_need_no_model_where_the_policy_has_one_for_them() {
    let main = upstream().await;
    let policy = policy_of(&[main.addr], "");
    let gateway = Launch::new(policy.clone() + "default_for: {moderation: m}\n").start().await;
    for (body, sent) in [
        (r#"{"input":"hi"}"#, r#"{"model":"m","input":"hi"}"#),
        (r#"{"input":"hi","model":"m"}"#, r#"{"input":"hi","model":"m"}"#),
        ("{ }", r#"{"model":"m" }"#),
    ] {
        assert_eq!(gateway.post("/v1/moderations", body).await.status, 200);
        assert_eq!(main.requests().pop().unwrap().body, sent.as_bytes());
    }
    let without = Launch::new(policy).start().await;
    let got = without.post("/v1/moderations", r#"{"input":"hi"}"#).await;
    assert_eq!(got.json()["error"]["code"], "model_required");
}

#[tokio::test]
async fn files_and_batches_go_to_the_pool_that_has_them_and_to_no_other() {
    let (engines, cloud) = (upstream().await, upstream().await);
    let policy = format!(
        "version: 1\nmodels: {{m: {{pools: [main]}}, big: {{pools: [cloud], upstream_model: gpt}}}}\npools:\n  main: {{endpoints: [\"{}\"], health: \
         {{enabled: false}}}}\n  cloud:\n    endpoints: [\"{}\"]\n    health: {{enabled: false}}\n    serves: [files, batches]\n    credential: {{value: \
         {{env: CLOUD_KEY}}}}\n",
        engines.addr, cloud.addr
    );
    let gateway = Launch::new(policy).variable("CLOUD_KEY", "sk-cloud").start().await;
    let body = form(&[
        ("name=\"purpose\"", "batch"),
        ("name=\"file\"; filename=\"a.jsonl\"", "{\"model\":\"x\"}\n"),
    ]);
    let got = upload(&gateway, "/v1/files", body.clone()).await;
    let seen = cloud.requests().pop().unwrap();
    assert_eq!((got.status, line(&seen), &*seen.body), (200, "POST /v1/files HTTP/1.1", body.as_bytes()));
    for (method, path) in [
        (Method::GET, "/v1/files?limit=2"),
        (Method::DELETE, "/v1/files/file-1"),
        (Method::GET, "/v1/files/file-1/content"),
        (Method::POST, "/v1/batches/b/cancel"),
    ] {
        let got =
            client().request(method.clone(), gateway.url(path)).bearer_auth("sk-mine").send().await.unwrap();
        let got = Answer::of(got).await;
        assert_eq!(got.status, 200, "{}", got.text);
        let seen = cloud.requests().pop().unwrap();
        assert_eq!(
            (line(&seen), seen.header("authorization")),
            (&*format!("{method} {path} HTTP/1.1"), "Bearer sk-cloud")
        );
        let line = gateway.line(got.header("x-request-id")).await;
        assert_eq!((&line["pool"], &line["prompt_tokens"]), (&json!("cloud"), &Value::Null), "{line}");
    }
    for path in [
        "/v1/vector_stores",
        "/v1/fine_tuning/jobs",
        "/v1/realtime/client_secrets",
        "/v1/conversations/c/items",
    ] {
        let got = gateway.post(path, "{}").await;
        assert_eq!((got.status, got.json()["error"]["code"].as_str()), (501, Some("not_served")), "{path}");
        assert!(got.text.contains("serves: ["), "{}", got.text);
    }
    let hidden = gateway.post("/v1/files/a%2f..%2fb", "{}").await;
    assert_eq!(hidden.status, 404);
    assert!(engines.requests().is_empty() && cloud.requests().is_empty());
}

#[tokio::test]
async fn prompts_are_rendered_by_the_engine_of_their_model() {
    let main = upstream().await;
    let gateway = Launch::new(
        policy_of(&[main.addr], "").replace("pools: [main]}", "pools: [main], upstream_model: up}"),
    )
    .start()
    .await;
    for api in ["chat/completions", "completions", "messages", "responses"] {
        let path = format!("/v1/{api}/render");
        let got = gateway.post(&path, r#"{"model":"m","messages":[],"x":1.0}"#).await;
        let seen = main.requests().pop().unwrap();
        assert_eq!((got.status, line(&seen)), (200, &*format!("POST {path} HTTP/1.1")));
        assert_eq!(seen.body, br#"{"model":"up","messages":[],"x":1.0}"#);
    }
}

#[tokio::test]
async fn providers_are_asked_at_their_own_paths() {
    let main = upstream().await;
    let policy = format!(
        "version: 1\nmodels:\n  gemini: {{pools: [gemini]}}\n  gpt: {{pools: [azure], upstream_model: gpt 4}}\npools:\n  gemini: {{endpoints: [\"{0}\"], health: \
         {{enabled: false}}, base_path: /v1beta/openai}}\n  azure:\n    endpoints: [\"{0}\"]\n    health: {{enabled: false}}\n    \
         base_path: /openai/deployments/{{model}}\n    api_version: \"2024-10-21\"\n    credential: {{header: api-key, value: {{env: AZURE_KEY}}}}\n",
        main.addr
    );
    let gateway = Launch::new(policy).variable("AZURE_KEY", "k").start().await;
    for (model, path, sent, key) in [
        ("gemini", "/v1/chat/completions?alt=sse", "/v1beta/openai/chat/completions?alt=sse", ""),
        ("gemini", "/v1/embeddings", "/v1beta/openai/embeddings", ""),
        (
            "gpt",
            "/v1/chat/completions?api-version=mine",
            "/openai/deployments/gpt%204/chat/completions?api-version=2024-10-21",
            "k",
        ),
    ] {
        let got = gateway.post(path, json!({"model": model, "messages": [], "input": "x"}).to_string()).await;
        assert_eq!(got.status, 200, "{}", got.text);
        let seen = main.requests().pop().unwrap();
        assert_eq!((line(&seen), seen.header("api-key")), (&*format!("POST {sent} HTTP/1.1"), key));
    }
}

#[tokio::test]
async fn an_imported_base_url_keeps_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vsr.yaml");
    let backend = |name: &str, url: &str, more: &str| {
        format!("    - name: {name}\n      backend_refs: [{{name: a, base_url: \"{url}\"{more}}}]\n")
    };
    let models = [
        backend("gemini", "https://generativelanguage.googleapis.com/v1beta/openai/", ", provider: gemini"),
        backend("glm", "https://open.bigmodel.cn/api/paas/v4", ""),
        backend(
            "azure",
            "https://x.openai.azure.com",
            ", provider: azure-openai, api_version: \"2024-10-21\"",
        ),
        backend("groq", "https://api.groq.com/openai/v1", ""),
        backend("openai", "https://api.openai.com/v1", ""),
    ];
    std::fs::write(
        &file,
        format!(
            "version: v0.3\nproviders:\n  defaults: {{default_model: glm}}\n  models:\n{}",
            models.concat()
        ),
    )
    .unwrap();
    let output = command(&["import", file.to_str().unwrap()], "");
    let policy = printed(&output.stdout);
    assert!(output.status.success(), "{policy}{}", printed(&output.stderr));
    for key in [
        "base_path: \"/v1beta/openai\"",
        "base_path: \"/api/paas/v4\"",
        "base_path: \"/openai/deployments/{model}\"",
        "api_version: \"2024-10-21\"",
        "path_prefix: \"/openai\"",
    ] {
        assert!(policy.contains(key), "{key}: {policy}");
    }
    assert_eq!(policy.matches("path_prefix").count(), 1, "{policy}");
}

#[tokio::test]
async fn slashes_at_the_end_of_a_path_do_not_reach_the_upstream() {
    let main = upstream().await;
    let gateway = Launch::new(policy_of(&[main.addr], "")).start().await;
    for (path, sent) in [
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/embeddings//?a=b", "/v1/embeddings?a=b"),
        ("/v1/rerank/", "/v1/rerank"),
    ] {
        assert_eq!(gateway.post(path, r#"{"model":"m","input":"x","messages":[]}"#).await.status, 200);
        assert_eq!(line(&main.requests()[0]), format!("POST {sent} HTTP/1.1"));
    }
}
