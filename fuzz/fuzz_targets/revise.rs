//! However an answer is cut into chunks, released unchanged it goes out as it came, and nothing that is not released
//! breaks its end; the first byte says where to cut.
#![no_main]

use signalbox::openai::{Api, Finish, Format, ReviseLimits, Reviser};

const LIMITS: ReviseLimits = ReviseLimits { max_held: 1 << 24 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&size, body)) = input.split_first() else {
        return;
    };
    for api in [Api::Chat, Api::Completions, Api::Messages, Api::Responses] {
        for format in [Format::EventStream, Format::Json] {
            let mut reviser = Reviser::new(format, api, LIMITS);
            let mut out = Vec::new();
            for chunk in body.chunks(usize::from(size).max(1)) {
                reviser.feed(chunk);
                release(&mut reviser, usize::MAX, None);
                out.extend_from_slice(&reviser.take());
            }
            reviser.end();
            release(&mut reviser, usize::MAX, None);
            out.extend_from_slice(&reviser.take());
            assert_eq!(out, body);
            assert!(reviser.is_over() && reviser.pending().next().is_none());

            let mut reviser = Reviser::new(format, api, LIMITS);
            for chunk in body.chunks(usize::from(size).max(1)) {
                reviser.feed(chunk);
                release(&mut reviser, usize::from(size % 8), Some("x"));
                reviser.take();
            }
            reviser.cut(Finish::ContentFilter, Some("cut"));
            assert!(reviser.is_over() && reviser.take().is_empty());
        }
    }
});

fn release(reviser: &mut Reviser, most: usize, with: Option<&str>) {
    let places: Vec<_> = reviser.pending().map(|text| (text.place, text.text.len().min(most))).collect();
    for (place, upto) in places {
        let replacement = with.map(|with| (1..upto.max(1), with.to_owned()));
        reviser.release(place, upto, replacement.as_slice());
    }
}
