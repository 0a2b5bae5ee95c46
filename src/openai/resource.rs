//! What servers keep beside models, by its paths: files, batches and the like.
//!
//! Refuses to know what any of them is.

/// A family of paths that a server has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceFamily {
    /// What a policy calls it.
    pub name: &'static str,
    /// How its paths begin.
    roots: &'static [&'static str],
}

const fn family(name: &'static str, roots: &'static [&'static str]) -> ResourceFamily {
    ResourceFamily { name, roots }
}

/// Every family that is known.
const FAMILIES: [ResourceFamily; 12] = [
    family("files", &["/v1/files"]),
    family("batches", &["/v1/batches"]),
    family("uploads", &["/v1/uploads"]),
    family("fine_tuning", &["/v1/fine_tuning"]),
    family("vector_stores", &["/v1/vector_stores"]),
    family("conversations", &["/v1/conversations"]),
    family("containers", &["/v1/containers"]),
    family("evals", &["/v1/evals"]),
    family("assistants", &["/v1/assistants", "/v1/threads"]),
    family("videos", &["/v1/videos"]),
    family("message_batches", &["/v1/messages/batches"]),
    family("realtime", &["/v1/realtime"]),
];

impl ResourceFamily {
    /// How the paths of all families begin.
    pub(super) fn all_roots() -> impl Iterator<Item = &'static str> {
        FAMILIES.into_iter().flat_map(|family| family.roots.iter().copied())
    }

    /// Finds the family of a path; nothing where it is of none, or could be read as another's.
    pub(super) fn at(path: &str) -> Option<Self> {
        let is_below = |root: &&str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_plain = !path.contains("..") && !path.contains("//") && !path.contains(['%', '\\', ';']);
        let found = FAMILIES.into_iter().find(|family| family.roots.iter().any(is_below));
        found.filter(|_| is_plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_of_the_family_that_it_is_below() {
        for (path, name) in [
            ("/v1/files", Some("files")),
            ("/v1/files/file-1/content", Some("files")),
            ("/v1/threads/t/runs", Some("assistants")),
            ("/v1/messages/batches/b/results", Some("message_batches")),
            ("/v1/filesystem", None),
            ("/v1/files/../chat/completions", None),
            ("/v1/files/%2e%2e/models", None),
            ("/v1/files//x", None),
            ("/v1/messages", None),
        ] {
            assert_eq!(ResourceFamily::at(path).map(|family| family.name), name, "{path}");
        }
    }
}
