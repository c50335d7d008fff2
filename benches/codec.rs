//! What does reading HTTP/1.1 cost, and how much of it is more than httparse alone?
//!
//! `cargo bench --bench codec -- --sample-size 2000`: one iteration a sample, which is what a slow
//! first one leads to, is mostly the timer's noise.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::mem::MaybeUninit;

use divan::{Bencher, black_box};
use http::Method;
use keyway::head::FieldTable;
use keyway::http1::{
    ChunkSize, Decoder, FIELDS_MAX, Length, Step, last_chunk, parse_request, parse_response,
};
use keyway::limits::HeadLimits;

const REQUESTS: [&str; 2] = ["small", "browser"];

const SMALL: &[u8] = b"GET /users/42 HTTP/1.1\r\nHost: api.test\r\nAccept: */*\r\n\r\n";

const BROWSER: &[u8] = b"GET /wiki/Consistent_hashing?action=view&lang=en HTTP/1.1\r\n\
    Host: www.example.test\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.test/wiki/Main_Page\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=1; _ga=GA1.2.3.4\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-User: ?1\r\n\
    If-None-Match: \"5f3e-61c4a8\"\r\n\
    Priority: u=0, i\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx\r\n\
    Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 1024\r\n\
    Cache-Control: no-cache\r\n\
    ETag: \"5f3e-61c4a8\"\r\n\
    X-Request-Id: 6c1f4d3e\r\n\
    Vary: Accept-Encoding\r\n\r\n";

const BODY: usize = 64 << 10;

fn main() {
    divan::main();
}

fn request_named(name: &str) -> &'static [u8] {
    if name == "small" { SMALL } else { BROWSER }
}

#[divan::bench(args = REQUESTS)]
fn request(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = request_named(name);
    bencher.bench_local(|| {
        let mut table = FieldTable::new();
        parse_request(black_box(bytes), &HeadLimits::default(), &mut table)
            .unwrap()
            .unwrap()
            .len
    });
}

#[divan::bench(args = REQUESTS)]
fn request_by_httparse(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = request_named(name);
    bencher.bench_local(|| {
        let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let whole = parsed.parse_with_uninit_headers(black_box(bytes), &mut headers);
        whole.unwrap().unwrap()
    });
}

#[divan::bench]
fn response(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| {
        let mut table = FieldTable::new();
        let parsed = parse_response(black_box(RESPONSE), &Method::GET, &mut table);
        parsed.unwrap().unwrap().len
    });
}

#[divan::bench]
fn response_by_httparse(bencher: Bencher<'_, '_>) {
    let config = httparse::ParserConfig::default();
    bencher.bench_local(|| {
        let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let bytes = black_box(RESPONSE);
        let whole = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers);
        whole.unwrap().unwrap()
    });
}

/// 64 KiB in chunks of this size, read from one buffer: nothing of the data is copied.
#[divan::bench(args = [64, 1024, 16 << 10])]
fn chunked_body(bencher: Bencher<'_, '_>, chunk: usize) {
    let mut bytes = Vec::new();
    for data in vec![b'x'; BODY].chunks(chunk) {
        bytes.extend_from_slice(ChunkSize::new(data.len()).as_bytes());
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(b"\r\n");
    }
    last_chunk(&mut bytes, None);
    bencher.bench_local(|| {
        let (mut decoder, mut rest, mut read) = (Decoder::new(Length::Chunked), &bytes[..], 0);
        loop {
            let decoded = decoder.decode(black_box(rest)).unwrap();
            rest = &rest[decoded.skip..];
            match decoded.step {
                Step::Data(len) => {
                    read += len;
                    rest = &rest[len..];
                }
                Step::Trailers(_) | Step::End => break read,
                Step::Incomplete => unreachable!("the body is whole"),
            }
        }
    });
}

/// The size lines alone, of the same body: httparse does not take data out of its framing.
#[divan::bench(args = [64, 1024, 16 << 10])]
fn chunk_sizes_by_httparse(bencher: Bencher<'_, '_>, chunk: usize) {
    let line = ChunkSize::new(chunk).as_bytes().to_vec();
    bencher.bench_local(|| {
        let size = || {
            httparse::parse_chunk_size(black_box(&line))
                .unwrap()
                .unwrap()
        };
        (0..BODY / chunk).map(|_| size().1).sum::<u64>()
    });
}
