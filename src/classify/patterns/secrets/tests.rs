//! What is a secret and what only looks like one. The tokens here are put together, so that nobody takes them for real.

use super::super::hits;
use super::{is_placeholder, secrets};

/// Characters as a token has them, as many as are asked for; always the same.
fn made_up(alphabet: &str, length: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        alphabet[(state >> 16) as usize % alphabet.len()]
    };
    (0..length).map(|_| next()).collect()
}

fn letters(length: usize) -> String {
    made_up("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", length)
}

#[track_caller]
fn finds(kind: &str, text: &str, secret: &str) {
    let found: Vec<_> = hits(text).into_iter().map(|hit| (hit.kind, text[hit.bytes].to_owned())).collect();
    assert_eq!(found, [(kind, secret.to_owned())], "in {text:?}");
}

#[track_caller]
fn finds_nothing(text: &str) {
    let mut found = Vec::new();
    secrets(text, &mut found);
    let found: Vec<_> = found.into_iter().map(|hit| (hit.kind, &text[hit.bytes])).collect();
    assert_eq!(found, [], "in {text:?}");
}

#[test]
fn a_token_is_known_by_its_issuers_prefix_and_length() {
    let upper = |length| made_up("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", length);
    let hex = |length| made_up("0123456789abcdef", length);
    for (kind, token) in [
        ("CLOUD_KEY", format!("AKIA{}", upper(16))),
        ("CLOUD_KEY", format!("AIza{}", letters(35))),
        ("CLOUD_KEY", format!("dop_v1_{}", hex(64))),
        ("ACCESS_TOKEN", format!("ghp_{}", letters(36))),
        ("ACCESS_TOKEN", format!("github_pat_{}_{}", letters(22), letters(59))),
        ("ACCESS_TOKEN", format!("glpat-{}", letters(20))),
        ("ACCESS_TOKEN", format!("xoxb-123456789012-123456789012-{}", letters(24))),
        ("ACCESS_TOKEN", format!("sk-{}", letters(48))),
        ("ACCESS_TOKEN", format!("sk-proj-{}", letters(120))),
        ("ACCESS_TOKEN", format!("sk-ant-api03-{}AA", letters(90))),
        ("ACCESS_TOKEN", format!("hf_{}", letters(34))),
        ("ACCESS_TOKEN", format!("sk_live_{}", letters(24))),
        ("ACCESS_TOKEN", format!("SG.{}.{}", letters(22), letters(43))),
        ("ACCESS_TOKEN", format!("npm_{}", letters(36))),
        ("ACCESS_TOKEN", format!("hvs.{}", letters(90))),
        ("ACCESS_TOKEN", format!("rubygems_{}", hex(48))),
        ("ACCESS_TOKEN", format!("CCIPAT_{}_{}", letters(22), hex(40))),
        ("ACCESS_TOKEN", format!("ATATT3xFfGF0{}", letters(170))),
        ("ACCESS_TOKEN", format!("123456789:AA{}", letters(33))),
        ("CLOUD_KEY", format!("aB18Q~{}", letters(34))),
        ("ACCESS_TOKEN", format!("https://hooks.slack.com/services/T0000/B0000/{}", letters(24))),
    ] {
        finds(kind, &format!("use {token}, please"), &token);
        finds(kind, &format!("{{\"k\":\"{token}\"}}"), &token);
        finds(kind, &format!("It is {token}."), &token);
        finds_nothing(&format!("x{token}"));
        finds_nothing(&token[..token.len() / 4]);
    }
}

#[test]
fn what_repeats_itself_or_is_spelt_is_no_token() {
    finds_nothing(&format!("AKIA{}", "X".repeat(16)));
    finds_nothing(&format!("sk-{}", "x".repeat(48)));
    finds_nothing("sk-your-api-key-goes-here-and-nowhere-else");
    finds_nothing("sk-learn, sk-SK, hf_hub_download, npm_config_registry, xoxb- and SG.");
    finds_nothing(
        "the commit 3f786850e387550fdab836ed7e6dc881de23001b and 550e8400-e29b-41d4-a716-446655440000",
    );
}

#[test]
fn claims_that_are_signed_are_a_token() {
    let token = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{}", letters(43));
    finds("ACCESS_TOKEN", &format!("Cookie: session={token}; Path=/"), &token);
    finds_nothing("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0");
}

#[test]
fn a_private_key_is_taken_from_its_first_line_to_its_last() {
    let body = format!("{}\n{}\n", letters(64), letters(40));
    for name in ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
        let key = format!("-----BEGIN {name}-----\n{body}-----END {name}-----");
        finds("PRIVATE_KEY", &format!("my key:\n{key}\nthanks"), &key);
        let escaped = key.replace('\n', "\\n");
        finds("PRIVATE_KEY", &format!("{{\"private_key\": \"{escaped}\"}}"), &escaped);
        let cut = key.split("\n-----END").next().unwrap().to_owned();
        finds("PRIVATE_KEY", &cut, &cut);
    }
    finds_nothing(&format!("-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----"));
}

#[test]
fn an_address_with_a_password_is_a_secret_as_a_whole() {
    for address in [
        "postgres://app:Xy7%21kq@db.internal:5432/shop?sslmode=require",
        "mongodb+srv://admin:s3cr3t-9@cluster0.example.net/test",
        "redis://:p4ss0rd9@10.0.0.7:6379/0",
        "amqp://guest:gu3st!@mq",
        "https://deploy:gl9-kk2x@git.example.org/group/project.git",
    ] {
        finds("CONNECTION_STRING", &format!("connect to {address}, then"), address);
    }
    let driver = "Server=tcp:db.example.net,1433;Database=shop;User ID=app;Password=Xy7!kq9z;Encrypt=True";
    let driver = driver.replace("tcp:db.example.net,1433", "db.example.net");
    finds("CONNECTION_STRING", &format!("'{driver}'"), &driver);
    for harmless in [
        "postgres://user:password@localhost/db",
        "postgres://${USER}:${PASSWORD}@db/shop",
        "postgres://user:<password>@db/shop",
        "https://example.org:8443/a@b",
        "https://example.org/x",
    ] {
        finds_nothing(harmless);
    }
}

#[test]
fn a_value_is_a_secret_where_its_name_says_so_and_it_is_not_spelt() {
    for (text, value) in [
        ("my password is hunter2!", "hunter2!"),
        ("Passwort: Sommer2024!", "Sommer2024!"),
        ("DB_PASSWORD=k3yb0ard-cat", "k3yb0ard-cat"),
        ("{\"password\": \"tr0ub4dor&3\"}", "tr0ub4dor&3"),
        ("client_secret = '8f14e45fceea167a5a36dedd4bea2543'", "8f14e45fceea167a5a36dedd4bea2543"),
        ("API_KEY: 9a0364b9e99bb480dd25e1f0284c8555", "9a0364b9e99bb480dd25e1f0284c8555"),
    ] {
        finds("PASSWORD", text, value);
    }
    let token = letters(40);
    finds("ACCESS_TOKEN", &format!("curl -H 'Authorization: Bearer {token}' x"), &token);
    for harmless in [
        "the password is required and must be changed",
        "password: string",
        "password=os.environ['DB_PASSWORD1']",
        "password = get_password2(user)",
        "password: ${DB_PASSWORD1}",
        "password=user.password2",
        "The secret: never give up.",
        "api_key = settings.api_key_2",
        "export API_KEY=your-api-key-123456789",
        "Authorization: Bearer <your token 1>",
        "secret is out there since 2019",
        "passwords: at least 12 characters",
    ] {
        finds_nothing(harmless);
    }
}

#[test]
fn what_is_to_be_filled_in_is_a_placeholder() {
    for value in ["${X}", "$TOKEN", "<key>", "{key}", "xxxx-1", "changeme", "your-key", "********", "%s"] {
        assert!(is_placeholder(value), "{value}");
    }
    for value in ["hunter2!", "k3yb0ard-cat", "a{b}c9"] {
        assert!(!is_placeholder(value), "{value}");
    }
}

#[test]
fn a_connection_string_may_be_assigned_to_a_variable_or_hold_its_password_among_parameters() {
    let word = letters(12);
    for secret in [
        format!("Server=db-1.internal;Database=crm;User Id=app;Password={word};"),
        format!("Data Source=db-1.internal;User ID=app;Password={word};Encrypt=True"),
        format!("jdbc:postgresql://db-1.internal:5432/crm?user=app&password={word}"),
        format!("jdbc:sqlserver://db-1.internal:1433;user=app;password={word};encrypt=true"),
        format!("postgresql://db-1.internal/crm?user=app&password={word}&sslmode=require"),
    ] {
        finds("CONNECTION_STRING", &format!("export CRM_DB={secret}\n./run"), &secret);
        finds("CONNECTION_STRING", &format!("We use {secret} since May."), &secret);
    }
    finds("PASSWORD", &format!("https://localhost/login?password={word}"), &word);
}

#[test]
fn a_password_may_stand_right_behind_the_word_or_a_commands_user() {
    finds("PASSWORD", "The network is guest, password Amber1987! as always", "Amber1987!");
    finds("PASSWORD", "password f4lc0n123", "f4lc0n123");
    finds("PASSWORD", "$ curl -u crm:w1nter778 localhost/status", "w1nter778");
    finds("PASSWORD", "password=%Xy7#kLm9pQ", "%Xy7#kLm9pQ");
    finds("PASSWORD", "DB_PASSWORD=XyK7kLm9?\n", "XyK7kLm9?");
    finds("PASSWORD", "My password is XyK7kLm9?", "XyK7kLm9");
    for calm in [
        "hash the password with argon2id or sha256",
        "the password argon2id is stored as",
        "password authentication-v2 was added in 2024",
        "a password 12characters long",
        "password=%PASSWORD%",
        "curl -u user:password https://example.org",
        "curl -u \"$USER:$PASSWORD\" https://example.org",
        "docker run -u 1000:1000 image",
    ] {
        finds_nothing(calm);
    }
}
