//! Pure: the normal form of a path, for nodes that read several spellings as one.

use std::borrow::Cow;

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNormal {
    /// A `..` leads above the root.
    #[error("the path leads above its root")]
    AboveRoot,
    /// A `%` is not followed by two hex digits.
    #[error("the path has a % without two hex digits")]
    Percent,
    /// It hides the end of a string from whoever decodes it.
    #[error("the path has a %00")]
    Nul,
}

/// The normal form of `path` (RFC 3986 section 6.2.2): unreserved characters not encoded, hex digits
/// upper case, no dot segments; and no empty segments but a last one, which the RFC leaves be and most
/// servers drop. `%2F` and `%5C` stay what they are: decoded they would be other paths.
///
/// # Errors
/// When there is none.
pub fn normal(path: &str) -> Result<Cow<'_, str>, NotNormal> {
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    let mut kept: Vec<&str> = Vec::new();
    let mut is_open = false;
    // What comes before the first slash is nothing.
    for segment in decoded.split('/').skip(1) {
        is_open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop().ok_or(NotNormal::AboveRoot)?),
            segment => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if is_open || kept.is_empty() {
        normal.push('/');
    }
    Ok(Cow::Owned(normal))
}

/// Whether nothing in `path` could have another normal form: nearly always so.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_none = |pair: &[u8]| pair != b"//" && pair != b"/.";
    // `OPTIONS *` has no path.
    !path.starts_with('/') || !bytes.contains(&b'%') && bytes.windows(2).all(is_none)
}

/// The path with its `%XX` spelled in one way.
fn decode(path: &str) -> Result<String, NotNormal> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = after.get(..2).ok_or(NotNormal::Percent)?;
        let is_hex = digits.bytes().all(|it| it.is_ascii_hexdigit());
        let byte = is_hex
            .then(|| u8::from_str_radix(digits, 16).ok())
            .flatten();
        match byte.ok_or(NotNormal::Percent)? {
            0 => return Err(NotNormal::Nul),
            byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~') => {
                decoded.push(byte.into());
            }
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &after[2..];
    }
    decoded.push_str(rest);
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_path_are_one() {
        for (path, form) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("*", "*"),
            ("/a//b", "/a/b"),
            ("//", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            // RFC 3986 5.2.4.
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/%2e%2E/b", "/b"),
            ("/%7euser/%41", "/~user/A"),
            ("/a%2fb%5cc", "/a%2Fb%5Cc"),
            ("/a%2f..%2f", "/a%2F..%2F"),
            ("/.a/..b/...", "/.a/..b/..."),
            ("/a;b=/../c", "/c"),
            ("/%c3%A9", "/%C3%A9"),
        ] {
            assert_eq!(normal(path).as_deref(), Ok(form), "{path}");
        }
        for (path, error) in [
            ("/..", NotNormal::AboveRoot),
            ("/a/../../b", NotNormal::AboveRoot),
            ("/%2e%2e/b", NotNormal::AboveRoot),
            ("/a%00", NotNormal::Nul),
            ("/a%", NotNormal::Percent),
            ("/a%2", NotNormal::Percent),
            ("/a%+2", NotNormal::Percent),
            ("/a%2\u{e9}", NotNormal::Percent),
        ] {
            assert_eq!(normal(path), Err(error), "{path}");
        }
    }

    #[test]
    fn what_is_normal_is_borrowed() {
        assert!(matches!(normal("/users/42/orders"), Ok(Cow::Borrowed(_))));
    }

    /// The same, one rule after the other as the RFC tells them.
    fn by_the_rules(path: &str) -> Option<String> {
        let mut spelled = path.to_owned();
        for byte in 0..=255_u8 {
            let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let to = if unreserved {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            };
            // What was decoded is not decoded again: no `%` comes of it.
            for from in [format!("%{byte:02x}"), format!("%{byte:02X}")] {
                spelled = spelled.replace(&from, &to);
            }
        }
        while spelled.contains("//") {
            spelled = spelled.replace("//", "/");
        }
        let ends = ["/.", "/.."].iter().any(|it| spelled.ends_with(it));
        spelled.push_str(if ends { "/" } else { "" });
        while let Some(at) = spelled.find("/./") {
            spelled.replace_range(at..at + 2, "");
        }
        while let Some(at) = spelled.find("/../") {
            let parent = spelled[..at].rfind('/')?;
            spelled.replace_range(parent..at + 3, "");
        }
        Some(spelled)
    }

    proptest! {
        #[test]
        fn it_is_what_the_rules_say(
            parts in prop::collection::vec(
                prop::sample::select(vec!["/", "/", "a", "B", ".", "..", "%2e", "%2E", "%41", "%2f", "%5C", "~", "%7e"]),
                0..12,
            ),
        ) {
            let path = format!("/{}", parts.concat());
            let form = normal(&path).ok().map(Cow::into_owned);
            prop_assert_eq!(&form, &by_the_rules(&path), "{}", path);
            if let Some(form) = form {
                let again = normal(&form);
                prop_assert_eq!(again.as_deref(), Ok(&form[..]));
            }
        }
    }
}
