//! PROXY protocol headers: none is longer than it may be, and who is named is named again.
#![no_main]

use std::net::SocketAddr;

use keyway::proxy_protocol::{Ends, HEADER_MAX, Progress, Version, header, parse};
use libfuzzer_sys::fuzz_target;

/// The client that `bytes` begin with, if they begin with a header, and the header's length.
fn read(bytes: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let mut have = 0;
    loop {
        match parse(bytes.get(..have)?) {
            Ok(Progress::Whole(client)) => return Some((client, have)),
            Ok(Progress::Missing(more)) => {
                assert!(more > 0);
                have += more;
            }
            Err(_) => return None,
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((client, len)) = read(bytes) else {
        return;
    };
    assert!(len <= HEADER_MAX);
    let Some(client) = client else {
        return;
    };
    let local = SocketAddr::from(([127, 0, 0, 1], 80));
    for version in [Version::V1, Version::V2] {
        let said = header(version, Some(Ends { client, local }));
        assert_eq!(read(&said), Some((Some(client), said.len())));
    }
});
