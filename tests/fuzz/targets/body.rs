//! Bodies in chunks: the same data comes out however the input is cut, and where it ends it ends.
#![no_main]

use keyway::http1::{Decoder, Length, Step, parse_trailers};
use libfuzzer_sys::fuzz_target;

/// What the decoder makes of `input`, of which `cut` bytes come first: the data, how much was used,
/// and whether it ended or failed.
fn decode(input: &[u8], cut: usize) -> (Vec<u8>, usize, bool, bool) {
    let mut decoder = Decoder::new(Length::Chunked);
    let (mut data, mut at, mut there) = (Vec::new(), 0, cut);
    loop {
        let Ok(decoded) = decoder.decode(&input[at..there]) else {
            return (data, at, false, true);
        };
        at += decoded.skip;
        match decoded.step {
            Step::Data(len) => {
                data.extend_from_slice(&input[at..at + len]);
                at += len;
            }
            Step::Trailers(len) => {
                let failed = parse_trailers(&input[at..at + len]).is_err();
                return (data, at + len, !failed, failed);
            }
            Step::End => return (data, at, true, false),
            Step::Incomplete if there < input.len() => there = input.len(),
            Step::Incomplete => return (data, at, false, false),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, input)) = input.split_first() else {
        return;
    };
    let whole = decode(input, input.len());
    let parts = decode(input, usize::from(cut).min(input.len()));
    // What an unfinished chunk header leaves unread may differ; what came out may not.
    assert_eq!(whole.0, parts.0);
    assert_eq!((whole.2, whole.3), (parts.2, parts.3));
    if whole.2 {
        assert_eq!(whole.1, parts.1);
    }
});
