//! What holds of every text that is nearly a policy.

use super::*;

/// Texts near the format: pieces of it in any order.
fn near_policies() -> impl Strategy<Value = String> {
    let words = "version|1|models|pools|endpoints|tls|decisions|virtual_models|${X:-1}|${|$$|a|h:1|math|auto|\
                 classifier|retry|on|429|&a|*a|: |:\n|- |\n|\n  |\n    |[|]|{|}|, |\"|'|#|~|0x1|1e9|---\n|? |!x |\t";
    let words: Vec<&'static str> = words.split('|').collect();
    proptest::collection::vec(proptest::sample::select(words), 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_loading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = loaded(&text);
        let _ = load_server(&text, FilePath::new("/"), &environment());
    }

    #[test]
    fn no_text_near_the_format_makes_loading_panic(text in near_policies()) {
        let _ = loaded(&text);
        let _ = loaded(&format!("version: 1\nmodels: {{a: {{pools: [p]}}}}\npools:\n  p: {text}"));
    }

    #[test]
    fn a_damaged_policy_is_refused_with_places_inside_it(at in 0_usize..6000, with in "[ -~\n]{0,3}") {
        let mut text = text("conf/policy.yaml");
        let at = at.min(text.len());
        text.replace_range(at..(at + with.len()).min(text.len()), &with);
        if let Err(issues) = loaded(&text) {
            prop_assert!(!issues.0.is_empty());
            for issue in &issues.0 {
                prop_assert!((1..=text.lines().count() + 1).contains(&issue.line), "{issue}");
            }
            prop_assert!(issues.0.is_sorted_by_key(|issue| issue.line));
        }
    }

    #[test]
    fn addresses_and_weights_arrive_as_written(
        ports in proptest::collection::btree_map(1_u16.., 1_u32..=1000, 1..20),
        priority in -1000_i32..1000,
        millis in 1_u64..100_000,
    ) {
        let endpoints = ports.iter().map(|(port, weight)| {
            format!("      - {{address: \"[fd00::{port:x}]:{port}\", weight: {weight}}}\n")
        });
        let endpoints = endpoints.collect::<Vec<String>>().concat();
        let text = format!(
            "version: 1\nvirtual_models: [auto]\ndefault_model: a/b\nmodels:\n  a/b: {{pools: [p]}}\ndecisions:\n  \
             - {{name: d, domains: [law], model: a/b, priority: {priority}}}\npools:\n  p:\n    \
             timeouts: {{idle: {millis}ms}}\n    endpoints:\n{endpoints}"
        );
        let policy = loaded(&text).unwrap();
        let expected: Vec<(u16, u32)> = ports.into_iter().collect();
        let pool = &policy.pools[0];
        let found: Vec<(u16, u32)> = pool.endpoints.iter().map(|e| (e.port, e.weight)).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(policy.recipes[0].decisions[0].priority, priority);
        prop_assert_eq!(pool.timeouts.idle, Duration::from_millis(millis));
    }
}
