//! Owns how an entry is written as bytes, for the file and for the server.
//! Refuses to know what becomes of the bytes. Lengths come before contents, numbers have their low byte first.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::{BufMut, Bytes};

use super::entry::{AnswerOrigin, CacheEntry, CacheKey, UnixMillis};

/// The layout below; another number is another layout, and is not read.
const LAYOUT: u8 = 1;

/// What of an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryPart {
    /// Everything.
    Whole,
    /// Everything but what similar requests are found by.
    Answer,
    /// Everything but the answer.
    Question,
}

/// Writes an entry behind what is in `out`.
pub(super) fn encode(entry: &CacheEntry, part: EntryPart, out: &mut Vec<u8>) {
    out.put_u8(LAYOUT);
    out.put_slice(&entry.key.scope);
    out.put_slice(&entry.key.exact);
    out.put_u64_le(entry.stored.0);
    out.put_u64_le(entry.expires.0);
    put(out, entry.origin.model.as_bytes());
    put(out, entry.origin.decision.as_bytes());
    out.put_u8(u8::from(entry.origin.tenant.is_some()));
    put(out, entry.origin.tenant.as_deref().unwrap_or_default().as_bytes());
    let (text, numbers) = match part {
        EntryPart::Answer => ("", None),
        EntryPart::Whole | EntryPart::Question => (&*entry.text, entry.embedding.as_deref()),
    };
    put(out, text.as_bytes());
    let numbers = numbers.unwrap_or_default();
    out.put_u32_le(length(numbers.len()));
    for number in numbers {
        out.put_f32_le(*number);
    }
    put(out, if part == EntryPart::Question { &[] } else { &entry.answer });
}

/// Reads an entry; `None` where the bytes are none of this layout or have more behind it.
pub(super) fn decode(bytes: &[u8]) -> Option<CacheEntry> {
    let mut reader = EntryReader(bytes);
    let (key, stored, expires, origin) = reader.head()?;
    let text = reader.text()?.into();
    let numbers = reader.numbers()?;
    let answer = Bytes::copy_from_slice(reader.piece()?);
    reader.0.is_empty().then(|| CacheEntry {
        key,
        text,
        embedding: (!numbers.is_empty()).then(|| numbers.into_boxed_slice()),
        answer,
        origin,
        stored,
        expires,
        used: AtomicU64::new(0),
    })
}

fn put(out: &mut Vec<u8>, piece: &[u8]) {
    out.put_u32_le(length(piece.len()));
    out.put_slice(piece);
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What is left to read.
struct EntryReader<'a>(&'a [u8]);

impl<'a> EntryReader<'a> {
    fn head(&mut self) -> Option<(CacheKey, UnixMillis, UnixMillis, AnswerOrigin)> {
        if self.take(1)? != [LAYOUT] {
            return None;
        }
        let key = CacheKey { scope: self.array()?, exact: self.array()? };
        let stored = UnixMillis(u64::from_le_bytes(self.array()?));
        let expires = UnixMillis(u64::from_le_bytes(self.array()?));
        let (model, decision) = (self.name()?, self.name()?);
        let has_tenant = self.take(1)? != [0];
        let tenant = self.name()?;
        Some((key, stored, expires, AnswerOrigin { model, decision, tenant: has_tenant.then_some(tenant) }))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn piece(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.piece()?).ok()
    }

    fn name(&mut self) -> Option<Arc<str>> {
        self.text().map(Arc::from)
    }

    fn numbers(&mut self) -> Option<Vec<f32>> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        let bytes = self.take(count.checked_mul(size_of::<f32>())?)?;
        Some(
            bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = CacheEntry> {
        let origin = (".{0,9}", ".{0,9}", prop::option::of(".{0,9}"));
        let numbers = prop::option::of(prop::collection::vec(-1.0_f32..1.0, 1..20));
        let answer = prop::collection::vec(any::<u8>(), 0..99);
        (any::<[u8; 32]>(), any::<[u8; 32]>(), ".{0,40}", numbers, answer, origin, any::<(u64, u64)>())
            .prop_map(
                |(scope, exact, text, numbers, answer, (model, decision, tenant), (stored, expires))| {
                    CacheEntry {
                        key: CacheKey { scope, exact },
                        text: text.into(),
                        embedding: numbers.map(Vec::into_boxed_slice),
                        answer: answer.into(),
                        origin: AnswerOrigin {
                            model: model.into(),
                            decision: decision.into(),
                            tenant: tenant.map(Arc::from),
                        },
                        stored: UnixMillis(stored),
                        expires: UnixMillis(expires),
                        used: AtomicU64::new(0),
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(entry in entry()) {
            let mut bytes = Vec::new();
            encode(&entry, EntryPart::Whole, &mut bytes);
            let back = decode(&bytes).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{entry:?}"));
        }

        #[test]
        fn cut_bytes_are_no_entry(entry in entry(), share in 0.0..1.0_f64) {
            let mut bytes = Vec::new();
            encode(&entry, EntryPart::Whole, &mut bytes);
            let kept = (bytes.len() as f64 * share) as usize;
            prop_assert!(decode(&bytes[..kept]).is_none());
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_part_leaves_out_the_other_half() {
        let mut whole = CacheEntry {
            key: CacheKey { scope: [1; 32], exact: [2; 32] },
            text: "text".into(),
            embedding: Some(vec![1.0].into()),
            answer: Bytes::from_static(b"answer"),
            origin: AnswerOrigin::default(),
            stored: UnixMillis(1),
            expires: UnixMillis(2),
            used: AtomicU64::new(0),
        };
        let read = |part, entry: &CacheEntry| {
            let mut bytes = Vec::new();
            encode(entry, part, &mut bytes);
            decode(&bytes).unwrap()
        };
        let answer = read(EntryPart::Answer, &whole);
        assert_eq!((&*answer.text, answer.embedding, &answer.answer[..]), ("", None, &b"answer"[..]));
        let question = read(EntryPart::Question, &whole);
        assert_eq!((&*question.text, question.answer.len()), ("text", 0));
        whole.answer = Bytes::new();
        assert_eq!(format!("{question:?}"), format!("{whole:?}"));
    }
}
