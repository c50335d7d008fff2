//! The status page: three files that the binary carries, which ask `/v1/state` like anybody else.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::Full;

/// The page asks nobody but the admin server, and nobody frames it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    media_type: &'static str,
    content: &'static str,
}

/// The file at `path`, below the root.
pub(super) fn file(path: &str) -> Option<File> {
    let (media_type, content) = match path {
        "" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
        "script.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/script.js"),
        ),
        _ => return None,
    };
    Some(File {
        media_type,
        content,
    })
}

impl File {
    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let content = Bytes::from_static(self.content.as_bytes());
        let mut response = Response::new(Full::new(content));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        // Another keyway may answer at this address tomorrow.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}
