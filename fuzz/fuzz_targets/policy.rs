//! Whatever the bytes are, loading them as a policy or a server file ends with a value or with issues.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let environment = signalbox::policy::Fixed::default();
    let _ = signalbox::policy::load(&text, Path::new("/"), &environment, Some(&["math"]));
    let _ = signalbox::policy::load_server(&text, Path::new("/"), &environment);
});
