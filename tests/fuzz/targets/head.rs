//! Heads of requests and responses: whatever comes, a head is read the same however it is cut, and
//! what was read of it lies within it.
#![no_main]

use http::Method;
use keyway::head::{FieldTable, Fields};
use keyway::http1::{parse_request, parse_response};
use keyway::limits::HeadLimits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = HeadLimits::default();
    let mut table = FieldTable::new();
    if let Ok(Some(line)) = parse_request(bytes, &limits, &mut table) {
        assert!(line.len <= bytes.len());
        let own = &bytes[..line.len];
        let count = |fields: Fields<'_>| {
            let mut lines = 0;
            fields.each(|_| lines += 1);
            lines
        };
        let lines = count(Fields::Lines(bytes, &table));
        let mut again = FieldTable::new();
        let same = parse_request(own, &limits, &mut again);
        assert_eq!(
            same.expect("it was one").expect("it was whole").length,
            line.length
        );
        assert_eq!(count(Fields::Lines(own, &again)), lines);
        for cut in [line.len - 1, line.len / 2] {
            let begun = parse_request(&own[..cut], &limits, &mut FieldTable::new());
            assert!(
                matches!(begun, Ok(None)),
                "a part of a head is not whole, nor wrong"
            );
        }
    }
    for asked in [Method::GET, Method::HEAD, Method::CONNECT] {
        let mut table = FieldTable::new();
        if let Ok(Some(line)) = parse_response(bytes, &asked, &mut table) {
            assert!(line.len <= bytes.len());
        }
    }
});
