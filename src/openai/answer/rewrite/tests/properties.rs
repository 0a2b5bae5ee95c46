//! What holds of every answer, whatever is replaced in it or cut.

use super::*;

proptest! {
    #[test]
    fn released_unchanged_every_byte_goes_out_as_it_came(
        first in text(),
        second in text(),
        api in prop::sample::select(APIS.to_vec()),
        end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
        size in 1_usize..400,
    ) {
        let texts = [first, second];
        let stream = String::from_utf8(streamed(api, &texts)).unwrap().replace('\n', end);
        let out = through(rewriter(Format::EventStream, api), stream.as_bytes(), size, release_all);
        prop_assert_eq!(String::from_utf8(out).unwrap(), stream);
        let body = serde_json::to_string_pretty(&answer(api, &texts)).unwrap();
        let out = through(rewriter(Format::Json, api), body.as_bytes(), size, release_all);
        prop_assert_eq!(String::from_utf8(out).unwrap(), body);
    }

    #[test]
    fn replaced_texts_are_replaced_everywhere(
        first in text(),
        second in text(),
        api in prop::sample::select(APIS.to_vec()),
        size in 1_usize..400,
    ) {
        let texts = [first, second];
        let expected = answer(api, &masked(&texts));
        let out = through(rewriter(Format::EventStream, api), &streamed(api, &texts), size, mask);
        prop_assert!(!String::from_utf8_lossy(&out).contains("secret"));
        prop_assert_eq!(assembled(api, &out), expected.clone());
        let body = answer(api, &texts).to_string();
        let out = through(rewriter(Format::Json, api), body.as_bytes(), size, mask);
        prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }

    #[test]
    fn a_cut_answer_is_whole_and_says_nothing_that_was_not_released(
        first in text(),
        second in text(),
        api in prop::sample::select(APIS.to_vec()),
        size in 1_usize..200,
        fed in 0_usize..40,
        upto in 0_usize..40,
    ) {
        let texts = [first, second];
        let stream = streamed(api, &texts);
        let mut rewriter = rewriter(Format::EventStream, api);
        let mut out = Vec::new();
        for chunk in stream.chunks(size).take(fed) {
            rewriter.feed(chunk);
            let ids: Vec<_> = rewriter.pending().filter(|text| text.id.choice == 0).map(|text| text.id).collect();
            for id in ids { rewriter.release(id, upto, &[(0..upto, "~".to_owned())]); }
            out.extend_from_slice(&rewriter.take());
        }
        out.extend_from_slice(&rewriter.cut(FinishReason::ContentFilter, Some("~note")));
        prop_assert!(rewriter.is_over());
        rewriter.feed(b"data: {\"late\":1}\n\n");
        rewriter.end();
        prop_assert_eq!(rewriter.take(), "");
        let whole = assembled(api, &out);
        let said = said(api, &whole).replace("~note", "");
        prop_assert!(said.chars().all(|c| c == '~'), "{} in {}", said, whole);
    }

    #[test]
    fn nothing_breaks_it(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "data: ", "{\"choices\":[", "{\"delta\":{", "\"content\":\"a\"", "}}]}", "\n\n", "\n", "\r", "[DONE]", ",",
            "\"logprobs\":{}", "\"index\":7", "{\"type\":\"content_block_delta\",\"delta\":{\"text\":\"x\"}}",
            "{\"type\":\"response.output_text.done\",\"text\":\"x\"}", "é", "\"finish_reason\":\"stop\"",
        ]), 0..24),
        upto in 0_usize..4,
        range in (0_usize..4, 0_usize..4),
        api in prop::sample::select(APIS.to_vec()),
    ) {
        for format in [Format::EventStream, Format::Json, Format::Opaque] {
            let mut rewriter = rewriter(format, api);
            for piece in &pieces {
                rewriter.feed(piece.as_bytes());
                let ids: Vec<_> = rewriter.pending().map(|text| text.id).collect();
                for id in ids {
                    rewriter.release(id, upto, &[(range.0..range.1, "r".to_owned())]);
                }
                rewriter.take();
            }
            rewriter.cut(FinishReason::Length, Some("n"));
            let body = pieces.concat().into_bytes();
            let out = through(SplitRewriter::new(format, api, ROOMY), &body, 5, release_all);
            prop_assert_eq!(out, body);
        }
    }
}
