//! Tokens that their issuers mark with a prefix, so that they are found.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::{ACCESS_TOKEN, CLOUD_KEY, PatternHit, before, entropy};

/// What follows a prefix.
#[derive(Clone, Copy)]
enum Alphabet {
    /// Letters and digits.
    Alphanumeric,
    /// These, `_` and `-`.
    Url,
    /// These and points.
    Dotted,
    /// Upper-case letters and digits.
    Upper,
    /// Lower-case hexadecimal digits.
    Hex,
}

impl Alphabet {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Hex => byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'),
        }
    }
}

/// A form of token: its prefix, and how many characters of what follow.
struct TokenForm {
    prefix: &'static str,
    kind: &'static str,
    alphabet: Alphabet,
    least: usize,
    most: usize,
}

const fn form(
    prefix: &'static str,
    kind: &'static str,
    alphabet: Alphabet,
    least: usize,
    most: usize,
) -> TokenForm {
    TokenForm { prefix, kind, alphabet, least, most }
}

/// The longest that a token without a fixed length may be.
const LONG: usize = 512;

/// The least entropy of what follows a prefix, in bits a character: less is an example or a word.
const LEAST_ENTROPY: f32 = 2.6;

use Alphabet::{Alphanumeric, Dotted, Hex, Upper, Url};

/// Where one prefix begins with another, the longer one stands first.
const FORMS: &[TokenForm] = &[
    // Amazon, Google, Microsoft, Alibaba, DigitalOcean.
    form("AKIA", CLOUD_KEY, Upper, 16, 16),
    form("ASIA", CLOUD_KEY, Upper, 16, 16),
    form("ABIA", CLOUD_KEY, Upper, 16, 16),
    form("ACCA", CLOUD_KEY, Upper, 16, 16),
    form("ABSK", CLOUD_KEY, Alphanumeric, 109, 269),
    form("AIza", CLOUD_KEY, Url, 35, 35),
    form("GOCSPX-", CLOUD_KEY, Url, 28, 28),
    form("ya29.", CLOUD_KEY, Url, 30, LONG),
    form("LTAI", CLOUD_KEY, Alphanumeric, 16, 20),
    form("dop_v1_", CLOUD_KEY, Hex, 64, 64),
    form("doo_v1_", CLOUD_KEY, Hex, 64, 64),
    form("dor_v1_", CLOUD_KEY, Hex, 64, 64),
    form("AKID", CLOUD_KEY, Alphanumeric, 32, 32),
    // Models and what is around them.
    form("sk-ant-", ACCESS_TOKEN, Url, 40, LONG),
    form("sk-proj-", ACCESS_TOKEN, Url, 40, LONG),
    form("sk-svcacct-", ACCESS_TOKEN, Url, 40, LONG),
    form("sk-admin-", ACCESS_TOKEN, Url, 40, LONG),
    form("sk-or-v1-", ACCESS_TOKEN, Hex, 64, 64),
    form("sk-lf-", ACCESS_TOKEN, Url, 32, 64),
    form("sk-", ACCESS_TOKEN, Alphanumeric, 32, 96),
    form("hf_", ACCESS_TOKEN, Alphanumeric, 34, 40),
    form("gsk_", ACCESS_TOKEN, Alphanumeric, 48, 60),
    form("xai-", ACCESS_TOKEN, Alphanumeric, 70, 90),
    form("r8_", ACCESS_TOKEN, Alphanumeric, 37, 40),
    form("pplx-", ACCESS_TOKEN, Alphanumeric, 40, 56),
    form("nvapi-", ACCESS_TOKEN, Url, 60, 70),
    form("pcsk_", ACCESS_TOKEN, Url, 40, 90),
    form("tvly-", ACCESS_TOKEN, Url, 28, 48),
    form("lsv2_pt_", ACCESS_TOKEN, Url, 32, 48),
    form("lsv2_sk_", ACCESS_TOKEN, Url, 32, 48),
    // Code and packages.
    form("github_pat_", ACCESS_TOKEN, Url, 82, 82),
    form("ghp_", ACCESS_TOKEN, Alphanumeric, 36, 255),
    form("gho_", ACCESS_TOKEN, Alphanumeric, 36, 255),
    form("ghu_", ACCESS_TOKEN, Alphanumeric, 36, 255),
    form("ghs_", ACCESS_TOKEN, Dotted, 36, LONG),
    form("ghr_", ACCESS_TOKEN, Alphanumeric, 36, 255),
    form("glpat-", ACCESS_TOKEN, Dotted, 20, 300),
    form("gldt-", ACCESS_TOKEN, Url, 20, 64),
    form("glrt-", ACCESS_TOKEN, Dotted, 20, 300),
    form("glptt-", ACCESS_TOKEN, Hex, 40, 40),
    form("npm_", ACCESS_TOKEN, Alphanumeric, 36, 36),
    form("pypi-AgEIcHlwaS5vcmc", ACCESS_TOKEN, Url, 50, LONG),
    form("dckr_pat_", ACCESS_TOKEN, Url, 27, 32),
    form("rubygems_", ACCESS_TOKEN, Hex, 48, 48),
    form("ATBB", ACCESS_TOKEN, Alphanumeric, 32, 32),
    form("CCIPAT_", ACCESS_TOKEN, Url, 63, 63),
    // Chats, mail, payments, shops.
    form("xoxb-", ACCESS_TOKEN, Url, 20, 255),
    form("xoxp-", ACCESS_TOKEN, Url, 20, 255),
    form("xoxa-", ACCESS_TOKEN, Url, 20, 255),
    form("xoxr-", ACCESS_TOKEN, Url, 20, 255),
    form("xoxs-", ACCESS_TOKEN, Url, 20, 255),
    form("xoxe-", ACCESS_TOKEN, Url, 20, 255),
    form("xapp-", ACCESS_TOKEN, Url, 20, 255),
    form("SG.", ACCESS_TOKEN, Dotted, 66, 66),
    form("sk_live_", ACCESS_TOKEN, Alphanumeric, 16, 247),
    form("sk_test_", ACCESS_TOKEN, Alphanumeric, 16, 247),
    form("rk_live_", ACCESS_TOKEN, Alphanumeric, 16, 247),
    form("rk_test_", ACCESS_TOKEN, Alphanumeric, 16, 247),
    form("whsec_", ACCESS_TOKEN, Alphanumeric, 32, 64),
    form("sq0atp-", ACCESS_TOKEN, Url, 22, 22),
    form("sq0csp-", ACCESS_TOKEN, Url, 43, 43),
    form("shpat_", ACCESS_TOKEN, Hex, 32, 32),
    form("shpca_", ACCESS_TOKEN, Hex, 32, 32),
    form("shppa_", ACCESS_TOKEN, Hex, 32, 32),
    form("shpss_", ACCESS_TOKEN, Hex, 32, 32),
    // Operations and offices.
    form("ATATT3", ACCESS_TOKEN, Url, 160, 220),
    form("AGE-SECRET-KEY-1", ACCESS_TOKEN, Upper, 58, 58),
    form("dapi", ACCESS_TOKEN, Hex, 32, 32),
    form("hvs.", ACCESS_TOKEN, Url, 24, 300),
    form("hvb.", ACCESS_TOKEN, Url, 138, 300),
    form("glsa_", ACCESS_TOKEN, Url, 41, 41),
    form("glc_", ACCESS_TOKEN, Alphanumeric, 32, 400),
    form("dp.pt.", ACCESS_TOKEN, Alphanumeric, 40, 44),
    form("PMAK-", ACCESS_TOKEN, Url, 59, 59),
    form("figd_", ACCESS_TOKEN, Url, 38, 48),
    form("sntrys_", ACCESS_TOKEN, Url, 40, 400),
    form("sntryu_", ACCESS_TOKEN, Hex, 64, 64),
    form("NRAK-", ACCESS_TOKEN, Upper, 27, 27),
    form("sbp_", ACCESS_TOKEN, Hex, 40, 40),
    form("lin_api_", ACCESS_TOKEN, Alphanumeric, 40, 40),
    form("ntn_", ACCESS_TOKEN, Alphanumeric, 46, 46),
    form("pscale_tkn_", ACCESS_TOKEN, Dotted, 32, 64),
    form("pscale_pw_", ACCESS_TOKEN, Dotted, 32, 64),
];

static PREFIXES: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let prefixes = FORMS.iter().map(|form| form.prefix);
    let kind = aho_corasick::MatchKind::LeftmostFirst;
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .match_kind(kind)
        .build(prefixes)
        .expect("the prefixes are few")
});

/// Finds tokens by their prefixes; the run of their characters must be as long as their issuer makes it.
pub(super) fn tokens(text: &str, found: &mut Vec<PatternHit>) {
    let bytes = text.as_bytes();
    let mut end = 0;
    for hit in PREFIXES.find_iter(text) {
        let touches = before(text, hit.start()).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        if touches || hit.start() < end {
            continue;
        }
        let form = &FORMS[hit.pattern().as_usize()];
        let body = &bytes[hit.end()..];
        let reach = &body[..body.len().min(form.most + 1)];
        let length = reach.iter().position(|byte| !form.alphabet.has(*byte)).unwrap_or(reach.len());
        // A point or hyphen at the end is the sentence's.
        let body = reach[..length].trim_ascii_end();
        let body = &body[..body.iter().rposition(u8::is_ascii_alphanumeric).map_or(0, |at| at + 1)];
        let goes_on = bytes.get(hit.end() + length).is_some_and(u8::is_ascii_alphanumeric);
        if (form.least..=form.most).contains(&body.len()) && !goes_on && entropy(body) >= LEAST_ENTROPY {
            end = hit.end() + body.len();
            found.push(PatternHit { kind: form.kind, bytes: hit.start()..end, confidence: 0.99 });
        }
    }
}
