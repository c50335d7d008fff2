use super::*;

#[test]
fn fields_are_counted() {
    let most = with_fields(&"A: b\r\n".repeat(FIELDS_MAX));
    let mut table = FieldTable::new();
    parse_request(&most, &mut table).unwrap().unwrap();
    assert_eq!(lines(&most, &table).len(), FIELDS_MAX);
    let more = with_fields(&"A: b\r\n".repeat(FIELDS_MAX + 1));
    assert_eq!(refused(&more), Error::HeadTooLarge);

    let of = |fields: usize| {
        let lines = "A: b\r\n".repeat(fields);
        format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
    };
    assert!(response(of(FIELDS_MAX).as_bytes()).is_ok());
    let more = response(of(FIELDS_MAX + 1).as_bytes());
    assert_eq!(more.unwrap_err(), Error::HeadTooLarge);

    let section = |fields: usize| format!("{}\r\n", "A: b\r\n".repeat(fields));
    let parsed = parse_trailers(section(FIELDS_MAX).as_bytes());
    assert_eq!(parsed.unwrap().len(), FIELDS_MAX);
    let more = parse_trailers(section(FIELDS_MAX + 1).as_bytes());
    assert_eq!(more.unwrap_err(), Error::HeadTooLarge);
}

#[test]
fn chunk_extensions_are_bounded_over_the_whole_body() {
    let bound = usize::try_from(EXTENSIONS_MAX).unwrap();
    let of = |first: usize, second: usize| {
        let (first, second) = ("a".repeat(first), "b".repeat(second));
        format!("5;{first}\r\nhello\r\n0;{second}\r\n\r\n")
    };
    let most = of(bound - 11, 10);
    assert_eq!(read_body(Length::Chunked, [most.as_bytes()]).1, Ok(()));
    for more in [of(bound - 10, 10), of(bound, 0), of(0, bound)] {
        let (_, ended) = read_body(Length::Chunked, [more.as_bytes()]);
        assert_eq!(ended, Err(Error::ChunkOverhead));
    }
}

#[test]
fn a_chunk_is_of_64_bits() {
    let mut decoder = Decoder::new(Length::Chunked);
    let decoded = decoder.decode(b"ffffffffffffffff\r\nhello").unwrap();
    assert_eq!((decoded.skip, decoded.step), (18, Step::Data(5)));
    for size in [
        "10000000000000000",
        "fffffffffffffffff",
        "00000000000000000",
    ] {
        let bytes = format!("{size}\r\n");
        let (_, ended) = read_body(Length::Chunked, [bytes.as_bytes()]);
        assert_eq!(ended, Err(Error::Chunk), "{size}");
    }
}
