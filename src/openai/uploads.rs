//! What takes files beside its parameters: speech into text, and changes of images.

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
use super::error_dialect::ErrorDialect;
use super::segment::UnreadKind;
use super::segment::rule::ReadRule;

pub(super) const TRANSCRIPTIONS: Dialect = upload("transcriptions", &["/v1/audio/transcriptions"], sound);

pub(super) const TRANSLATIONS: Dialect = upload("translations", &["/v1/audio/translations"], sound);

pub(super) const IMAGE_EDITS: Dialect = upload("image_edits", &["/v1/images/edits"], picture);

pub(super) const IMAGE_VARIATIONS: Dialect = upload("image_variations", &["/v1/images/variations"], picture);

const fn upload(
    name: &'static str,
    paths: &'static [&'static str],
    member: fn(&str) -> Option<ReadRule>,
) -> Dialect {
    Dialect {
        name,
        paths,
        request: RequestDialect { member, ..RequestDialect::of_prompt("prompt") },
        answer: &OtherAnswers,
        errors: ErrorDialect::OPENAI,
        translations: &[],
    }
}

fn sound(name: &str) -> Option<ReadRule> {
    Some(match name {
        "file" => ReadRule::Unread(UnreadKind::Audio),
        "language" | "response_format" | "timestamp_granularities[]" | "include[]" | "chunking_strategy" => {
            ReadRule::Words
        }
        _ => return None,
    })
}

fn picture(name: &str) -> Option<ReadRule> {
    Some(match name {
        "image" | "image[]" | "images" | "mask" => ReadRule::Unread(UnreadKind::Image),
        "size" | "quality" | "response_format" | "background" | "output_format" | "input_fidelity" => {
            ReadRule::Words
        }
        _ => return None,
    })
}
