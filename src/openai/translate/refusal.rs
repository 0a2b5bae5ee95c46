//! How a translation says that it cannot honour a part of a request.

use crate::Rejection;

/// Refuses a request for a part that the upstream's API has nothing for.
pub(crate) fn untranslatable(place: impl Into<String>, why: &'static str) -> Rejection {
    Rejection::Untranslatable { place: place.into(), why: why.to_owned() }
}
