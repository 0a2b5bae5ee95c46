//! Tests of the server file, and of which file a key belongs to.

use super::*;

#[test]
fn without_a_word_of_the_operators_only_this_machine_reaches_a_port() {
    for text in ["", "threads: 2\n", "admin: {}\n"] {
        let server = load_server(text, FilePath::new("/"), &Fixed::default()).unwrap();
        assert!(server.admin.ip().is_loopback(), "{text}");
        assert!(server.addresses().iter().all(|address| address.ip().is_loopback()), "{text}");
    }
}

#[test]
fn a_server_file_names_all_its_issues() {
    let text = "listeners:\n  - address: localhost\n    tls: {cert_file: no, key_file: client.key}\n  \
                - address: 0.0.0.0:1\n  - address: 0.0.0.0:1\nlimits: {max_body_bytes: 10, max_buffered_bytes: 9}\n\
                log: {level: loud}\ndrain: {timeout: 0s}\nthread: 4\n";
    let issues = load_server(text, FilePath::new("/etc/signalbox"), &environment()).unwrap_err();
    assert_eq!(
        issues.to_string(),
        "listeners[0].address (line 2): `localhost` is not `address:port`, such as `0.0.0.0:8080`, \
         `[::]:8080`, `localhost:8080`, or `:8080` for all addresses\nlisteners[0].tls.cert_file (line 3): cannot read `no`: entity not found\n\
         listeners[2].address (line 5): stands twice\n\
         limits.max_buffered_bytes (line 6): is less than `max_body_bytes`\n\
         log.level (line 7): `loud` is not one of `error`, `warn`, `info`, `debug`, `trace`\n\
         drain.timeout (line 8): must be longer than 0\nthread (line 9): unknown key; did you mean `threads`? There are \
         `admin`, `cors`, `drain`, `gateway_api`, `limits`, `listeners`, `log`, `threads`, `upgrade`"
    );
}

fn server(text: &str) -> Result<ServerSpec, String> {
    load_server(text, FilePath::new("/"), &environment()).map_err(|issues| issues.to_string())
}

#[test]
fn an_address_to_listen_on_has_short_forms() {
    for (text, address) in [
        ("localhost:8080", "127.0.0.1:8080"),
        (":8080", "0.0.0.0:8080"),
        ("\"8080\"", "0.0.0.0:8080"),
        ("\"[::1]:0\"", "[::1]:0"),
    ] {
        let spec = server(&format!("listeners: [{{address: {text}}}]\n"));
        let text = if let Err(fault) = &spec { fault } else { text };
        assert_eq!(
            spec.as_ref().map(|spec| spec.listeners[0].address.to_string()).as_deref(),
            Ok(address),
            "{text}"
        );
    }
    for text in ["localhost:", ":x", "99999", "example.com:80", "\"\""] {
        assert!(server(&format!("listeners: [{{address: {text}}}]\n")).is_err(), "{text}");
    }
}

#[test]
fn sizes_may_have_units() {
    let limits = |text: &str| server(&format!("limits: {{max_body_bytes: {text}}}\n"));
    for text in ["2MiB", "2Mi", "2097152", "\"2 MiB\""] {
        assert_eq!(limits(text).unwrap().limits.max_body_bytes, 2 << 20, "{text}");
    }
    let fault = limits("2 megabytes").unwrap_err();
    assert!(fault.contains("not a size; write a number of bytes, or a size such as `64KiB`"), "{fault}");
    assert_eq!(
        limits("2000GiB").unwrap_err(),
        "limits.max_body_bytes (line 1): must be between 1 and 1073741824"
    );
}

#[test]
fn a_key_of_the_other_file_says_where_it_belongs() {
    let issues = loaded("version: 1\nlisteners: []\n").unwrap_err().to_string();
    assert!(issues.contains("listeners (line 2): belongs in the server file, `--server`"), "{issues}");
    let issues = server("threads: 1\ndecisions: []\n").unwrap_err();
    assert_eq!(issues, "decisions (line 2): belongs in the policy");
    let issues = loaded("listeners: []\nthreads: 1\n").unwrap_err().to_string();
    assert_eq!(issues, "line 1, column 1: this is the server file, `--server`");
    assert_eq!(server("models: {}\npools: {}\n").unwrap_err(), "line 1, column 1: this is the policy");
}

#[test]
fn an_address_of_clients_is_not_the_operators_too() {
    let fault = server("listeners: [{address: 127.0.0.1:9090}]\n").unwrap_err();
    assert_eq!(fault, "admin.address (line 1): is a listener's address too");
}
