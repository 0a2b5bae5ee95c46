//! Whatever the bytes are and however they are cut, a page of metrics ends with figures in bounds, or with none.
#![no_main]

use std::time::Instant;

use signalbox::control::EnginePage;
use signalbox::policy::EngineKind;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (size, page) = bytes.split_first().map_or((1, bytes), |(size, page)| (usize::from(*size).max(1), page));
    let at = Instant::now();
    let [mut pieces, mut whole] = [EnginePage::new(EngineKind::Auto), EnginePage::new(EngineKind::Auto)];
    page.chunks(size).for_each(|piece| pieces.feed(piece));
    whole.feed(page);
    let read = whole.finish(at);
    assert_eq!(pieces.finish(at), read);
    if let Some(read) = read {
        let figures = [read.waiting, read.running, read.kv_usage].into_iter().flatten();
        assert!(figures.into_iter().all(|figure| figure >= 0.0 && figure.is_finite()));
    }
});
