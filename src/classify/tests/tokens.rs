//! The built-in tokenizer on any text: windows cover it, and tokens lie where their characters are.

use super::*;

fn texts() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-zA-Zäöß€😀 ,.@\\n\u{0301}0-9]{0,12}", 0..60)
        .prop_map(|parts| parts.concat())
}

fn builtin() -> LoadedModel {
    let (device, hub) = (ComputeDevice::open(DeviceChoice::Cpu, Precision::Auto), HubSpec::default());
    let options =
        LoadOptions { heads: HeadSelection::any(ClassifyHeads::DOMAIN), device: &device, hub: &hub };
    LoadedModel::load(&ModelSource::Builtin, &options).unwrap()
}

/// The spans of bytes that the windows of a text cover, and those of its tokens.
fn spans(text: &str, window: usize, overlap: usize) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    thread_local!(static MODEL: LoadedModel = builtin());
    let tokens = MODEL.with(|model| model.tokenize(text)).unwrap();
    let windows = window::WindowGrid::new(window, overlap, 510).lay(0..tokens.ids.len());
    let bytes = |window: window::TokenWindow| {
        tokens.bytes[window.tokens.start].start..tokens.bytes[window.tokens.end - 1].end
    };
    (windows.into_iter().map(bytes).collect(), tokens.bytes.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn windows_cover_every_token_of_any_text_and_map_back_to_its_characters(
        text in texts(), window in 1..40_usize, overlap in 0..40_usize,
    ) {
        let (windows, tokens) = spans(&text, window, overlap);
        for span in windows.iter().chain(&tokens) {
            prop_assert!(text.get(span.clone()).is_some(), "{span:?} in {text:?}");
        }
        for token in &tokens {
            let inside = |window: &Range<usize>| window.start <= token.start && token.end <= window.end;
            prop_assert!(windows.iter().any(inside));
        }
    }

    #[test]
    fn an_appended_turn_leaves_earlier_windows_where_they_were(
        text in texts(), more in texts(), window in 1..40_usize, overlap in 0..40_usize,
    ) {
        let (before, tokens) = spans(&text, window, overlap);
        let (after, _) = spans(&format!("{text}\n{more}"), window, overlap);
        let full = if tokens.len() < window { 0 } else { before.len() - 1 };
        prop_assert_eq!(&before[..full], &after[..full]);
    }
}
