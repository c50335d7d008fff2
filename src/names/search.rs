//! Pure: which absolute names a name as written may mean.

/// The names to ask for, in order, each ending in a dot: `name` itself, and under each domain of the
/// search list, after it when `name` has at least `ndots` dots, else before (resolv.conf(5)). A name
/// that ends in a dot means only itself.
pub(super) fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let itself = std::iter::once(format!("{name}."));
    let under = search
        .iter()
        .map(|domain| format!("{name}.{}.", domain.trim_end_matches('.')));
    if name.matches('.').count() >= ndots {
        itself.chain(under).collect()
    } else {
        under.chain(itself).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_dots_search_first() {
        let search = ["ns.svc.local".to_owned(), "svc.local.".to_owned()];
        assert_eq!(
            candidates("a", &search, 1),
            ["a.ns.svc.local.", "a.svc.local.", "a."]
        );
        assert_eq!(
            candidates("a.b", &search, 1),
            ["a.b.", "a.b.ns.svc.local.", "a.b.svc.local."]
        );
        assert_eq!(candidates("a.b", &search, 5)[2], "a.b.");
        assert_eq!(candidates("a.", &search, 5), ["a."]);
        assert_eq!(candidates("a", &[], 1), ["a."]);
    }
}
