//! However an answer is cut into chunks, the same is read from it; the first byte says where to cut.
#![no_main]

use signalbox::openai::{Format, UsageReader};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&size, body)) = input.split_first() else {
        return;
    };
    for format in [Format::EventStream, Format::Json] {
        let read = |size: usize| {
            let mut reader = UsageReader::new(format);
            body.chunks(size.max(1)).for_each(|chunk| reader.feed(chunk));
            let usage = reader.finish();
            (usage, reader.events(), reader.has_ended(), reader.skipped())
        };
        let whole = read(body.len());
        assert_eq!(read(usize::from(size)), whole);
        assert_eq!(read(1), whole);
    }
});
