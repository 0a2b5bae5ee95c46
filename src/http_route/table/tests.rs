//! Which rule a request finds.

use super::super::matching::{RouteMatch, RouteRegex, ValueMatch};
use super::super::query::{ModelHeaders, decode};
use super::*;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

fn rule(name: &str) -> Arc<RouteRule> {
    Arc::new(RouteRule { source: name.into(), ..RouteRule::default() })
}

fn entry(name: &str, change: impl FnOnce(&mut RouteMatch)) -> RouteEntry {
    let mut request = RouteMatch::any();
    change(&mut request);
    RouteEntry { host: HostPattern::Any, request, rule: rule(name) }
}

fn table(entries: Vec<RouteEntry>) -> RouteTable {
    let mut table = RouteTableBuilder::default();
    table.add_listener(80, HostPattern::Any);
    table.add_entries(80, &HostPattern::Any, entries);
    table.build()
}

struct Ask {
    path: &'static str,
    query: Option<&'static str>,
    method: Method,
    headers: HeaderMap,
    model: Option<&'static str>,
}

impl Default for Ask {
    fn default() -> Self {
        Self { path: "/", query: None, method: Method::GET, headers: HeaderMap::new(), model: None }
    }
}

fn found(table: &RouteTable, host: &str, ask: &Ask) -> String {
    let query = RouteQuery {
        port: 80,
        host,
        method: &ask.method,
        path: ask.path,
        query: ask.query,
        headers: &ask.headers,
        model: ask.model.map(|name| ModelHeaders { selected: name, asked: name }),
    };
    table.find(&query).map_or("none".to_owned(), |found| found.rule.source.to_string())
}

fn header(name: &'static str, value: &str) -> (HeaderName, ValueMatch) {
    (HeaderName::from_static(name), ValueMatch::Exact(value.to_owned()))
}

#[test]
fn a_connection_belongs_to_the_listener_of_its_name() {
    let mut table = RouteTableBuilder::default();
    for host in ["a.example", "*.example", "*.b.example"] {
        table.add_listener(443, HostPattern::of(host));
    }
    let table = table.build();
    for (name, host, is_misdirected) in [
        ("a.example", "A.example:443", false),
        ("a.example", "c.example", true),
        ("c.example", "d.example", false),
        ("c.example", "x.b.example", true),
        ("other", "a.example", true),
        ("a.example", "other", false),
    ] {
        assert_eq!(table.is_misdirected(443, name, host), is_misdirected, "{name} {host}");
    }
    assert!(!table.is_misdirected(80, "a.example", "b.example"));
}

#[test]
fn the_plan_names_the_model_and_no_client_does() {
    let table = table(vec![
        entry("llama", |it| it.headers = vec![header("x-selected-model", "llama")]),
        entry("phi", |it| it.headers = vec![header("x-selected-model", "phi")]),
    ]);
    assert_eq!(found(&table, "h", &Ask { model: Some("phi"), ..Ask::default() }), "phi");
    assert_eq!(found(&table, "h", &Ask { model: Some("other"), ..Ask::default() }), "none");
    let mut forged = HeaderMap::new();
    forged.insert("x-selected-model", HeaderValue::from_static("llama"));
    assert_eq!(
        found(&table, "h", &Ask { model: Some("phi"), headers: forged.clone(), ..Ask::default() }),
        "phi"
    );
    assert_eq!(found(&table, "h", &Ask { headers: forged, ..Ask::default() }), "none");
}

#[test]
fn the_most_specific_match_wins_in_the_order_of_the_specification() {
    let path = |path: PathMatch| move |it: &mut RouteMatch| it.path = path;
    let table = table(vec![
        entry("root", |_| {}),
        entry("prefix", path(PathMatch::prefix("/v1/"))),
        entry("longer", path(PathMatch::prefix("/v1/chat"))),
        entry("exact", path(PathMatch::Exact("/v1/chat".to_owned()))),
        entry("regex", path(PathMatch::Regex(RouteRegex::new("/v[23]/.*").unwrap()))),
        entry("method", |it| {
            it.path = PathMatch::prefix("/v1");
            it.method = Some(Method::PUT);
        }),
        entry("header", |it| {
            it.path = PathMatch::prefix("/v1");
            it.headers = vec![header("a", "1")];
        }),
        entry("two", |it| {
            it.path = PathMatch::prefix("/v1");
            it.headers = vec![header("a", "1"), header("b", "2")];
        }),
        entry("query", |it| {
            it.path = PathMatch::prefix("/v1");
            it.query = vec![("q".to_owned(), ValueMatch::Exact("a b".to_owned()))];
        }),
    ]);
    let at = |path| found(&table, "h", &Ask { path, ..Ask::default() });
    assert_eq!(
        [at("/"), at("/v1"), at("/v1/"), at("/v1/x"), at("/v12")],
        ["root", "prefix", "prefix", "prefix", "root"]
    );
    assert_eq!([at("/v1/chat"), at("/v1/chat/"), at("/v1/chatter")], ["exact", "longer", "prefix"]);
    assert_eq!([at("/v2/x"), at("/x/v2/x"), at("/v4/x")], ["regex", "root", "root"]);
    let with = |pairs: &[(&'static str, &'static str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Ask { path: "/v1/x", query: Some("x=1&q=a+b&q=c"), headers: pairs.collect(), ..Ask::default() }
    };
    assert_eq!(found(&table, "h", &with(&[("a", "1")])), "header");
    assert_eq!(found(&table, "h", &with(&[("a", "1"), ("b", "2")])), "two");
    assert_eq!(found(&table, "h", &with(&[("a", "2")])), "query");
    assert_eq!(found(&table, "h", &Ask { method: Method::PUT, ..with(&[("a", "1"), ("b", "2")]) }), "method");
}

#[test]
fn a_request_has_one_listener_the_most_specific_of_its_host() {
    let table = |narrow: Option<RouteEntry>| {
        let mut table = RouteTableBuilder::default();
        for host in ["", "*.example.com", "a.example.com"] {
            table.add_listener(80, HostPattern::of(host));
        }
        table.add_entries(80, &HostPattern::Any, [entry("any", |_| {})]);
        table.add_entries(
            80,
            &HostPattern::of("*.example.com"),
            [entry("below", |_| {})].into_iter().chain(narrow),
        );
        table.build()
    };
    let (wide, ask) = (table(None), Ask::default());
    assert_eq!(found(&wide, "b.Example.com:8080", &ask), "below");
    assert_eq!(found(&wide, "a.example.com", &ask), "none", "its own listener has no route");
    assert_eq!(found(&wide, "example.com", &ask), "any");
    assert_eq!(found(&wide, "[::1]:80", &ask), "any");
    let narrow = RouteEntry { host: HostPattern::of("b.example.com"), ..entry("narrow", |_| {}) };
    let table = table(Some(narrow));
    assert_eq!(found(&table, "b.example.com", &ask), "narrow");
    assert_eq!(found(&table, "c.example.com", &ask), "below");
    assert!(table.has_port(80) && !table.has_port(81));
}

#[test]
fn an_expression_describes_the_whole_text() {
    let regex = |text: &str| ValueMatch::Regex(RouteRegex::new(text).unwrap());
    let table =
        table(vec![entry("it", |it| it.headers = vec![(HeaderName::from_static("v"), regex("a|b"))])]);
    let with = |value: &'static str| Ask {
        headers: HeaderMap::from_iter([(HeaderName::from_static("v"), HeaderValue::from_static(value))]),
        ..Ask::default()
    };
    assert_eq!(found(&table, "h", &with("b")), "it");
    assert_eq!(found(&table, "h", &with("ab")), "none");
    assert!(RouteRegex::new("(").is_err());
    assert!(RouteRegex::new("(a{1000}){1000}").is_err(), "too large");
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "", "a%2Fb"]), 0..4)
        .prop_map(|segments| {
            segments
                .iter()
                .fold("/".to_owned(), |path, segment| format!("{path}{segment}/"))
                .trim_end_matches('/')
                .to_owned()
                + "/"
        })
        .prop_flat_map(|path| {
            let bare = path.trim_end_matches('/').to_owned();
            prop::sample::select(vec![if bare.is_empty() { path.clone() } else { bare }, path])
        })
}

fn any_entry() -> impl Strategy<Value = RouteEntry> {
    let host = prop::sample::select(vec!["", "a.b.c", "*.b.c", "*.c", "b.c"]);
    let model = prop::option::of(prop::sample::select(vec!["a", "b", "c"]));
    (host, any_path(), 0..3_u8, model, any::<bool>()).prop_map(|(host, path, kind, model, with_method)| {
        let path = match kind {
            0 => PathMatch::Exact(path),
            1 => PathMatch::prefix(&path),
            _ => PathMatch::Regex(RouteRegex::new(&format!("{path}.*")).unwrap()),
        };
        let headers = model.map(|name| header("x-selected-model", name)).into_iter().collect();
        let method = with_method.then_some(Method::GET);
        RouteEntry {
            host: HostPattern::of(host),
            ..entry("", |it| {
                *it = RouteMatch { path, method, headers, query: Vec::new() };
            })
        }
    })
}

fn any_ask() -> impl Strategy<Value = (&'static str, String, Option<&'static str>)> {
    let host = prop::sample::select(vec!["a.b.c", "x.b.c", "b.c", "c", "x.a.b.c", ".b.c", "other"]);
    (host, any_path(), prop::option::of(prop::sample::select(vec!["a", "b", "x"])))
}

proptest! {
    /// Whatever the order in which entries are added, a request finds the same rule.
    #[test]
    fn the_order_of_adding_decides_nothing(order in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle(), at in 0..4_usize) {
        let paths = ["/", "/a", "/a/b", "/a/b/c", "/b"];
        let entries = order.iter().map(|index| entry(paths[*index], |it| it.path = PathMatch::prefix(paths[*index])));
        let table = table(entries.collect());
        let asked = ["/a/b/c/d", "/a/x", "/b", "/bb"][at];
        let expected = ["/a/b/c", "/a", "/b", "/"][at];
        prop_assert_eq!(found(&table, "h", &Ask { path: asked, ..Ask::default() }), expected);
    }

    /// What is looked up by host, path and model is what a look at one match after the other finds.
    #[test]
    fn an_index_changes_nothing(entries in prop::collection::vec(any_entry(), 0..24), asked in any_ask()) {
        let entries: Vec<RouteEntry> = entries
            .into_iter()
            .enumerate()
            .map(|(index, entry)| RouteEntry { rule: rule(&index.to_string()), ..entry })
            .collect();
        let table = table(entries);
        let (host, path, model) = asked;
        let headers = HeaderMap::new();
        let query = RouteQuery {
            port: 80, host, method: &Method::GET, path: &path, query: None, headers: &headers,
            model: model.map(|name| ModelHeaders { selected: name, asked: "b" }),
        };
        let (_, ordered) = table.listeners().next().unwrap();
        let first = ordered.iter().find(|entry| entry.host.matches(host) && entry.request.matches(&query));
        prop_assert_eq!(table.find(&query).map(|found| &found.rule.source), first.map(|entry| &entry.rule.source));
    }

    /// Any text can be decoded.
    #[test]
    fn any_query_can_be_read(text in ".*") {
        let decoded = decode(&text);
        prop_assert!(decoded.len() <= text.len() * 3);
    }
}
