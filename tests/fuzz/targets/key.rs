//! Keys out of any request, and the node that each leads to: the same one each time.
#![no_main]

use std::sync::LazyLock;

use keyway::head::{Captures, FieldTable, Fields, RequestHead};
use keyway::http1::parse_request;
use keyway::key::{Body, KeySpec, Lookup};
use keyway::limits::HeadLimits;
use keyway::placement::{Algorithm, Member, Placement, Replication, SlotBits};
use libfuzzer_sys::fuzz_target;

static SPECS: LazyLock<Vec<KeySpec>> = LazyLock::new(|| {
    let sources = [
        "header:x-id",
        "cookie:id",
        "query:id",
        "raw:query:id",
        "path",
        "target",
        "host",
        "body:/a/0/b",
    ];
    let specs = sources.map(|it| KeySpec::parse(&[it.to_owned()], None).expect("it is a source"));
    specs.into()
});

static PLACEMENT: LazyLock<Placement> = LazyLock::new(|| {
    let members: Vec<_> = (0..3)
        .map(|at| Member {
            name: format!("m{at}"),
            weight: 1,
            ..Member::default()
        })
        .collect();
    let algorithm = Algorithm::Slots {
        bits: SlotBits::MIN,
    };
    Placement::build(algorithm, &members, Replication::NONE).expect("it can be built")
});

fuzz_target!(|bytes: &[u8]| {
    let mut table = FieldTable::new();
    let Ok(Some(line)) = parse_request(bytes, &HeadLimits::default(), &mut table) else {
        return;
    };
    let text =
        |span: keyway::head::Span| std::str::from_utf8(span.of_bytes(bytes)).unwrap_or_default();
    let head = RequestHead {
        method: &line.method,
        authority: text(line.target.authority),
        path: text(line.target.path),
        query: line.target.query.map(text),
        fields: Fields::Lines(bytes, &table),
        client: None,
        listener: "app",
    };
    let body = Body::Read {
        bytes: &bytes[line.len..],
        complete: true,
    };
    for spec in SPECS.iter() {
        let captures = Captures::default();
        let found = spec.lookup(&head, &captures, body);
        assert_eq!(found, spec.lookup(&head, &captures, body));
        if let Ok(Lookup::Key(key)) = found {
            assert!(!key.is_empty());
            let token = PLACEMENT.token(&key);
            // The table's first candidate, and what ranks all members, agree.
            let mut candidates: Vec<_> = PLACEMENT.candidates(token).collect();
            assert_eq!(candidates.first(), Some(&PLACEMENT.owner(token)));
            candidates.sort();
            candidates.dedup();
            assert_eq!(candidates.len(), PLACEMENT.candidate_count());
        }
    }
});
