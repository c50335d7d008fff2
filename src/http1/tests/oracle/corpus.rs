//! Messages to read: right ones, odd ones, and both with bytes changed, of a seed.

use http::Method;

use super::words::*;

/// A message, and what follows it.
#[derive(Debug)]
pub(super) struct Case {
    /// What the client asked for, where the message is a response.
    pub(super) asked: Method,
    pub(super) input: Vec<u8>,
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn word(&mut self, of: &Words) -> &'static str {
        let of = if self.one_in(20) { of.odd } else { of.right };
        self.pick(of)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

pub(super) fn request(random: &mut Random) -> Case {
    let mut input = Vec::new();
    if random.one_in(20) {
        input.extend_from_slice(b"\r\n");
    }
    let target = random.word(&TARGETS);
    let fits = |method: &&str| match target {
        "*" => *method == "OPTIONS",
        "h:443" | "[::1]:443" | "[::1]" | "h" | "h:" => *method == "CONNECT",
        _ => *method != "CONNECT",
    };
    let mut method = random.pick(&METHODS);
    while !fits(&method) && !random.one_in(30) {
        method = random.pick(&METHODS);
    }
    let version = random.pick(&VERSIONS);
    input.extend_from_slice(format!("{method} {target} {version}\r\n").as_bytes());
    rest_of(&mut input, method == "CONNECT", random);
    mutate(&mut input, random);
    input.extend_from_slice(SECOND_REQUEST);
    Case {
        asked: Method::GET,
        input,
    }
}

pub(super) fn response(random: &mut Random) -> Case {
    let asked = random.pick(&["GET", "GET", "GET", "POST", "HEAD", "CONNECT"]);
    let mut input = Vec::new();
    let interims = if random.one_in(8) {
        1 + random.below(2)
    } else {
        0
    };
    for _ in 0..interims {
        input.extend_from_slice(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n");
    }
    let version = random.pick(&VERSIONS);
    let status = random.word(&STATUSES);
    input.extend_from_slice(format!("{version} {status}\r\n").as_bytes());
    let is_bare = asked == "HEAD" || matches!(status.get(..3), Some("204" | "304"));
    rest_of(&mut input, is_bare, random);
    mutate(&mut input, random);
    input.extend_from_slice(SECOND_RESPONSE);
    let asked = asked.parse().unwrap();
    Case { asked, input }
}

/// Field lines and a body that fits them, mostly.
fn rest_of(input: &mut Vec<u8>, is_bare: bool, random: &mut Random) {
    for _ in 0..random.below(4) {
        push_line(input, random.word(&FIELDS));
    }
    if random.one_in(300) {
        // Around the bound.
        (0..95 + random.below(8)).for_each(|_| push_line(input, "A: b"));
    }
    let (framing, is_chunked) = match random.below(10) {
        0..3 => ("", false),
        3..5 => ("Content-Length: 5", false),
        5..8 => ("Transfer-Encoding: chunked", true),
        _ => (random.pick(&FRAMINGS), random.one_in(2)),
    };
    if !framing.is_empty() {
        push_line(input, framing);
    }
    input.extend_from_slice(b"\r\n");
    match framing {
        _ if is_bare && !random.one_in(10) => {}
        "" if !random.one_in(10) => {}
        _ if is_chunked => chunks(input, random),
        _ => input.extend_from_slice(b"hello"),
    }
}

fn push_line(input: &mut Vec<u8>, line: &str) {
    input.extend_from_slice(line.as_bytes());
    input.extend_from_slice(b"\r\n");
}

fn chunks(input: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let data = random.pick(&["hello", "0\r\n\r\n", "x", "0123456789abcdefg"]);
        let (size, extension) = (chunk_size(data.len(), random), random.word(&EXTENSIONS));
        for line in [&*format!("{size}{extension}"), data] {
            let end = if random.one_in(60) { "\n" } else { "\r\n" };
            input.extend_from_slice(line.as_bytes());
            input.extend_from_slice(end.as_bytes());
        }
    }
    let extension = if random.one_in(400) {
        // Around the bound.
        format!(";{}", "a".repeat((16 << 10) - 4 + random.below(8)))
    } else {
        random.pick(EXTENSIONS.right).to_owned()
    };
    push_line(input, &format!("0{extension}"));
    trailers(input, random);
    input.extend_from_slice(b"\r\n");
}

fn chunk_size(len: usize, random: &mut Random) -> String {
    match random.below(40) {
        0..3 => format!("0{len:X}"),
        3..5 => format!("000000000000000{len:x}"),
        5 => format!("0000000000000000{len:x}"),
        6 => format!("0x{len:x}"),
        7 => format!("+{len:x}"),
        8 => format!(" {len:x}"),
        9 => format!("0_{len:x}"),
        10 => format!("1000000000000000{len:x}"),
        11 => format!("fffffffffffffff{len:x}"),
        _ => format!("{len:x}"),
    }
}

fn trailers(input: &mut Vec<u8>, random: &mut Random) {
    match random.below(400) {
        // Around the bounds.
        0 => {
            let value = "a".repeat((16 << 10) - 12 + random.below(10));
            push_line(input, &format!("A: {value}"));
        }
        1 => (0..98 + random.below(4)).for_each(|_| push_line(input, "A: b")),
        2..100 => (0..random.below(3)).for_each(|_| push_line(input, random.word(&TRAILERS))),
        _ => {}
    }
}

/// Leaves it as it is, or changes it in a few places.
fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    let changes = random.pick(&[0, 0, 0, 0, 1, 1, 1, 1, 2, 3]);
    for _ in 0..changes {
        if input.is_empty() {
            return;
        }
        let from = random.pick(&[0, 0, input.len() / 2]);
        let at = from + random.below(input.len() - from);
        let end = (at + 1 + random.below(8)).min(input.len());
        match random.below(8) {
            0 => input[at] ^= 1 << random.below(8),
            1 => input[at] = u8::try_from(random.below(256)).unwrap(),
            2 => drop(input.drain(at..end)),
            3 => drop(input.remove(at)),
            4 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let token = random.pick(&TOKENS);
                input.splice(at..=at, token.iter().copied());
            }
            _ => {
                let token = random.pick(&TOKENS);
                input.splice(at..at, token.iter().copied());
            }
        }
    }
}
