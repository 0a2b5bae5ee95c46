//! `signalbox demo` as a newcomer meets it: what it prints is pasted, and does what its comment says.

use crate::harness::*;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

/// One printed command and what its comment says of it.
#[derive(Debug)]
struct Try {
    shows: String,
    command: String,
}

/// A running demo, and what it printed before it said how to end it.
struct Demo {
    child: Child,
    introduction: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(arguments);
        // The environment of the test run must not change what the demo shows.
        command.env("OPENAI_API_KEY", "sk-of-somebody").env_remove("RUST_LOG");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (lines, received) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test may have read enough.
                let _ = lines.send(line);
            }
        });
        let mut demo = Self { child, introduction: String::new() };
        while !demo.introduction.contains("Ctrl-C") {
            let line = received.recv_timeout(PATIENCE).expect("the demo says how to end it");
            demo.introduction += &(line + "\n");
        }
        demo
    }

    /// The printed commands, each with the comment above it.
    fn tries(&self) -> Vec<Try> {
        let lines: Vec<&str> = self.introduction.lines().collect();
        let pairs = lines.windows(2).filter(|pair| pair[0].starts_with("# "));
        let pairs = pairs.map(|pair| Try {
            shows: pair[0].trim_start_matches("# ").to_owned(),
            command: pair[1].to_owned(),
        });
        pairs.collect()
    }

    /// The folder with the policy that it names.
    fn policy(&self) -> &str {
        let line = self.introduction.lines().find_map(|line| line.strip_prefix("Its policy is ")).unwrap();
        line.split(": ").next().unwrap()
    }

    fn interrupt(&mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < end, "the demo does not end");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a line as a shell does when it is pasted.
fn paste(command: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", command])
        .env("no_proxy", "127.0.0.1")
        .output()
        .expect("bash is there");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A header of an answer that `curl -i` printed.
fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
}

/// Pastes every command, and checks it by the words of its comment; `math` is the policy's model for mathematics.
fn paste_all(demo: &Demo, math: &str) {
    let tries = demo.tries();
    let printed = |name| demo.introduction.matches(name).count();
    assert_eq!(tries.len(), printed("curl ") + printed("printf "), "each command has its own line");
    for Try { shows, command } in &tries {
        let answer = paste(command);
        let model = header(&answer, "x-vsr-selected-model");
        let category = header(&answer, "x-vsr-selected-category");
        if command.starts_with("curl -i ") {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{shows}: {answer}");
            assert!(!model.is_empty() && !answer.contains("sk-"), "{shows}: {answer}");
        }
        let expected = match shows.as_str() {
            "the models" => {
                assert!(answer.contains("\"gpt-4o-mini\"") && answer.contains("\"auto\""), "{answer}");
                continue;
            }
            "what was counted" => {
                assert!(answer.contains("signalbox_requests_total{"), "{answer}");
                continue;
            }
            shows if shows.starts_with("a long prompt: once more") => {
                let again = paste(command);
                assert!(header(&again, "x-endpoint-reason").starts_with("prefix; cached="), "{again}");
                assert_eq!(header(&again, "x-inference-pod"), header(&answer, "x-inference-pod"));
                assert!(!again.contains("\"cached_tokens\":0"), "{again}");
                continue;
            }
            "why it goes there, and how each replica stands for it" => {
                assert!(answer.contains("plan       llama3-8b by named; pools: llama"), "{answer}");
                assert_eq!(answer.matches(" tokens to compute, cost ").count(), 2, "{answer}");
                assert_eq!(answer.matches("\n          => ").count(), 1, "{answer}");
                continue;
            }
            "a stream, with its usage at the end" => {
                assert!(answer.contains("data: {") && answer.ends_with("data: [DONE]\n\n"), "{answer}");
                assert!(answer.contains("\"usage\":{\"prompt_tokens\":"), "{answer}");
                continue;
            }
            "completions, by a model's name with a slash" => ("TheBloke/Llama-2-13B-chat-GPTQ", ""),
            "auto: computer science, so llama3-8b" => ("llama3-8b", "computer science"),
            shows if shows.contains("auto: math") || shows.contains("calls auto: math") => (math, "math"),
            shows if shows.starts_with("gpt-4o-mini: over TLS") => ("gpt-4o-mini", ""),
            shows => (shows.strip_suffix(", named").unwrap_or_else(|| panic!("nobody checks `{shows}`")), ""),
        };
        assert_eq!((model, category), expected, "{shows}: {answer}");
        let served = if model == "gpt-4o-mini" { "gpt-4o-mini-2024-07-18" } else { model };
        assert!(answer.contains(&format!("\"model\":\"{served}\"")), "{shows}: {answer}");
    }
    assert!(tries.len() >= 11, "{tries:#?}");
}

#[test]
fn what_the_demo_prints_can_be_pasted_and_does_what_it_says() {
    let mut demo = Demo::start(&[]);
    paste_all(&demo, "phi4-mini");
    let policy = demo.policy().to_owned();
    assert!(Path::new(&policy).is_file(), "{policy}");
    assert!(demo.interrupt().success());
    assert!(!Path::new(&policy).exists(), "its files go with it");
}

#[test]
fn with_the_other_policy_mathematics_goes_to_openai_over_tls() {
    let mut demo = Demo::start(&["--policy", "conf/openai.yaml"]);
    paste_all(&demo, "gpt-4o-mini");
    assert_eq!(demo.policy(), "conf/openai.yaml");
    assert!(demo.interrupt().success());
    assert!(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/openai.yaml").exists(),
        "a policy of one's own stays"
    );
}

#[test]
fn the_demos_policy_can_be_edited_while_it_runs() {
    let demo = Demo::start(&[]);
    let text = std::fs::read_to_string(demo.policy()).unwrap();
    let tries = demo.tries();
    let math = tries.iter().find(|one| one.shows.starts_with("auto: math")).unwrap();
    assert_eq!(header(&paste(&math.command), "x-vsr-selected-model"), "phi4-mini");
    let edited = text.replace(
        "    domains: [math]\n    model: phi4-mini\n",
        "    domains: [math]\n    model: llama3-8b\n",
    );
    assert_ne!(edited, text);
    std::fs::write(demo.policy(), edited).unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    while header(&paste(&math.command), "x-vsr-selected-model") != "llama3-8b" {
        assert!(std::time::Instant::now() < end, "the policy is not followed");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_demo_on_a_taken_port_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    let output = command.args(["demo", "--listen", &address, "--admin", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}
