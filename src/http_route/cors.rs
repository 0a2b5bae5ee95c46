//! Owns which pages in browsers a rule lets ask, and what they are told (the Fetch standard's CORS protocol). Refuses to know
//! headers' maps.

use super::host::HostPattern;

/// Which pages may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteCors {
    /// By their origins.
    pub origins: Vec<CorsOrigin>,
    /// Whether they may send cookies and credentials.
    pub credentials: bool,
    /// By which methods; `*` stands for all.
    pub methods: Vec<String>,
    /// With which headers; `*` stands for all.
    pub headers: Vec<String>,
    /// Which headers of an answer they may read; `*` stands for all.
    pub exposed: Vec<String>,
    /// For how many seconds a browser may remember that.
    pub max_age: u32,
}

/// An origin, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigin {
    /// Every one.
    Any,
    /// Those of a scheme, a host and a port, in lower case.
    Of {
        /// The scheme.
        scheme: String,
        /// The host, or all below one.
        host: HostPattern,
        /// The port, as it is written; the scheme's own where there is none.
        port: Option<String>,
    },
}

impl CorsOrigin {
    /// Reads an origin such as `https://*.example.com:8443`, or `*`; nothing where it is none.
    pub fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (scheme, host, port) = parts(text)?;
        Some(Self::Of { scheme, host: HostPattern::of(&host), port })
    }

    fn means(&self, origin: &str) -> bool {
        let Self::Of { scheme, host, port } = self else { return true };
        parts(origin).is_some_and(|(own, name, at)| own == *scheme && at == *port && host.matches(&name))
    }
}

/// Scheme, host and port of an origin, in lower case.
fn parts(origin: &str) -> Option<(String, String, Option<String>)> {
    let (scheme, rest) = origin.split_once("://")?;
    let is_port = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if is_port(port) => (host, Some(port.to_owned())),
        _ => (rest, None),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._*[]:".contains(c);
    let is_one = !scheme.is_empty() && !host.is_empty() && host.chars().all(is_host);
    is_one.then(|| (scheme.to_ascii_lowercase(), host.to_ascii_lowercase(), port))
}

/// What a browser says of the page that asks.
#[derive(Debug, Clone, Copy)]
pub struct CorsRequest<'a> {
    /// The page's origin.
    pub origin: &'a str,
    /// In a preflight the method that the page would ask by.
    pub method: Option<&'a str>,
    /// In a preflight the headers that it would send, as they are written.
    pub headers: Option<&'a str>,
}

impl RouteCors {
    /// The headers that tell a browser what its page may; none where it may nothing.
    pub fn answer(&self, request: CorsRequest<'_>) -> Vec<(&'static str, String)> {
        let CorsRequest { origin, method, headers } = request;
        if !self.origins.iter().any(|known| known.means(origin)) {
            return Vec::new();
        }
        let is_any = self.origins.contains(&CorsOrigin::Any) && !self.credentials;
        let origin = if is_any { "*" } else { origin };
        let mut answer = vec![("access-control-allow-origin", origin.to_owned())];
        if self.credentials {
            answer.push(("access-control-allow-credentials", "true".to_owned()));
        }
        let mut tell = |name, list: &[String], asked: Option<&str>| {
            // Where credentials are sent, a star stands for nothing but itself: what is asked for is named.
            let is_star = list.iter().any(|one| one == "*");
            let told = match asked {
                Some(asked) if is_star && self.credentials => asked.to_owned(),
                _ if is_star => "*".to_owned(),
                _ => list.join(", "),
            };
            if !told.is_empty() {
                answer.push((name, told));
            }
        };
        if method.is_some() {
            tell("access-control-allow-methods", &self.methods, method);
            tell("access-control-allow-headers", &self.headers, headers);
            answer.push(("access-control-max-age", self.max_age.to_string()));
        } else {
            tell("access-control-expose-headers", &self.exposed, None);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> RouteCors {
        RouteCors {
            origins: origins.iter().map(|text| CorsOrigin::read(text).unwrap()).collect(),
            credentials,
            methods: vec!["*".to_owned()],
            headers: vec!["x-a".to_owned(), "x-b".to_owned()],
            exposed: vec!["*".to_owned()],
            max_age: 5,
        }
    }

    fn page(origin: &str) -> CorsRequest<'_> {
        CorsRequest { origin, method: None, headers: None }
    }

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let some = cors(&["https://a.example", "http://*.b.example:8080"], false);
        for (origin, may) in [
            ("https://a.example", true),
            ("HTTPS://A.example", true),
            ("http://a.example", false),
            ("https://a.example:8443", false),
            ("http://x.b.example:8080", true),
            ("http://b.example:8080", false),
            ("http://x.b.example", false),
            ("null", false),
        ] {
            assert_eq!(!some.answer(page(origin)).is_empty(), may, "{origin}");
        }
        assert!(CorsOrigin::read("a.example").is_none() && CorsOrigin::read("https://").is_none());
        assert!(!cors(&["*"], false).answer(page("null")).is_empty());
    }

    #[test]
    fn a_star_is_told_as_one_only_where_no_credentials_are_sent() {
        let asked = CorsRequest { origin: "https://a.example", method: Some("PUT"), headers: Some("x-b") };
        let told = |cors: RouteCors, name: &str| {
            let found = cors.answer(asked).into_iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| value).unwrap_or_default()
        };
        assert_eq!(told(cors(&["*"], false), "access-control-allow-origin"), "*");
        assert_eq!(told(cors(&["*"], true), "access-control-allow-origin"), "https://a.example");
        assert_eq!(told(cors(&["*"], false), "access-control-allow-methods"), "*");
        assert_eq!(told(cors(&["*"], true), "access-control-allow-methods"), "PUT");
        assert_eq!(told(cors(&["*"], true), "access-control-allow-headers"), "x-a, x-b");
        assert_eq!(told(cors(&["*"], true), "access-control-allow-credentials"), "true");
        assert_eq!(told(cors(&["*"], true), "access-control-max-age"), "5");
        assert_eq!(told(cors(&["*"], true), "access-control-expose-headers"), "", "of answers alone");
        assert!(
            cors(&["*"], false)
                .answer(page("x"))
                .contains(&("access-control-expose-headers", "*".to_owned()))
        );
    }
}
