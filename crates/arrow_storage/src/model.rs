//! What made a store's vectors: a model's name, or `name@sha256:digest` with a digest of its weights.

const DIGEST: &str = "@sha256:";

/// Whether vectors of both compare. A digest counts only when both have one: a store that was made before
/// digests, or from a model without one, is known by its name.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let (a, b) = (split(a), split(b));
    a.0 == b.0 && (a.1.is_none() || b.1.is_none() || a.1 == b.1)
}

fn split(model: &str) -> (&str, Option<&str>) {
    match model.rsplit_once(DIGEST) {
        Some((name, digest)) => (name, Some(digest)),
        None => (model, None),
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn names_decide_and_then_digests() {
        assert!(same("minilm", "minilm"));
        assert!(!same("minilm", "bge"));
        assert!(same("minilm", "minilm@sha256:0123"));
        assert!(same("minilm@sha256:0123", "minilm@sha256:0123"));
        assert!(!same("minilm@sha256:0123", "minilm@sha256:4567"));
        assert!(!same("minilm@sha256:0123", "bge@sha256:0123"));
        assert!(same("hf:org/name@main", "hf:org/name@main@sha256:89"));
    }
}
