//! Pure: floods of HTTP/2 frames that cost their sender nothing, found by the headers of the frames
//! (RFC 9113 section 4.1) as their bytes pass.
//!
//! h2 bounds what a flood can hold in memory. How fast one may come is bounded here, and told.
//! Nothing of a frame is understood but its type, and the error code of a reset.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What every connection begins with that a client makes.
const PREFACE_BYTES: u32 = 24;

/// How many frames without content may come in the time of one reset: they cost less, and careful
/// clients ping and widen windows.
const CONTROLS_PER_RESET: u32 = 10;

/// How many frames without content may come for each with content, in either direction. A client
/// may widen two windows a few times for each frame that it is sent.
const CONTROLS_PER_CONTENT: u32 = 8;

/// More content than this is in a frame that is larger than all of its padding can be.
const PADDING_MAX: u32 = 256;

/// Of how many streams that nobody took up it is known how they are answered: more than come in one
/// read, unless they are refused or come after the connection's end.
const OPENED_MAX: usize = 1024;

/// Types of frames.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const GOAWAY: u8 = 7;
}

/// Flags of DATA frames.
mod flag {
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const PADDED: u8 = 0x8;
}

/// Error codes.
mod code {
    pub(super) const PROTOCOL_ERROR: u32 = 1;
    pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(super) const STREAM_CLOSED: u32 = 5;
    pub(super) const FRAME_SIZE_ERROR: u32 = 6;
    pub(super) const REFUSED_STREAM: u32 = 7;
    pub(super) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// Whether a stream is reset with this code for what its client did.
pub fn is_clients_fault(code: u32) -> bool {
    is_provoked(code) || code == code::REFUSED_STREAM
}

/// Whether a stream is reset with this code for what its client's frames were: how a client has a
/// server reset streams for it (CVE-2025-8671).
fn is_provoked(code: u32) -> bool {
    use code::{FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED};
    [
        PROTOCOL_ERROR,
        FLOW_CONTROL_ERROR,
        STREAM_CLOSED,
        FRAME_SIZE_ERROR,
    ]
    .contains(&code)
}

/// Watches the frames of a client's connection.
#[derive(Debug)]
pub struct FloodWatch {
    received: Walk,
    sent: Walk,
    /// Streams that the client reset, or had reset.
    resets: Budget,
    /// Frames of the client's without content, beyond those that content excuses.
    controls: Budget,
    /// The last stream that the client opened.
    last_stream: u32,
    /// Those that it opened and that nobody took up yet, in order.
    opened: VecDeque<u32>,
    /// Streams refused that nobody was told of.
    refused: u32,
    /// Streams answered by h2 itself that nobody was told of.
    oversize: u32,
    is_over: bool,
}

/// The way through one direction's frames, whatever pieces they come in.
#[derive(Debug)]
struct Walk {
    /// The header that is being read, and the error code behind that of a reset.
    head: [u8; 13],
    has: usize,
    /// What is left of the frame behind it.
    skip: u32,
}

/// A frame, of which the payload was not read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    len: u32,
    kind: u8,
    flags: u8,
    stream: u32,
    /// Of a reset.
    code: u32,
}

/// So many events may happen within a second.
#[derive(Debug)]
struct Budget {
    max: u32,
    count: u32,
    /// When the first of them happened, or before.
    since: Instant,
}

// === impl FloodWatch ===

impl FloodWatch {
    /// A connection that begins at `now`, and on which `resets_per_second` streams may be reset.
    pub fn new(resets_per_second: u32, now: Instant) -> Self {
        let controls = resets_per_second.saturating_mul(CONTROLS_PER_RESET);
        Self {
            received: Walk::after(PREFACE_BYTES),
            sent: Walk::after(0),
            resets: Budget::new(resets_per_second, now),
            controls: Budget::new(controls, now),
            last_stream: 0,
            opened: VecDeque::new(),
            refused: 0,
            oversize: 0,
            is_over: false,
        }
    }

    /// Whether there was a flood.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The client sent `bytes`.
    pub fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) {
        self.received.through(bytes, |frame| {
            if frame.kind == kind::HEADERS && frame.stream > self.last_stream {
                self.last_stream = frame.stream;
                if self.opened.len() == OPENED_MAX {
                    self.opened.pop_front();
                }
                self.opened.push_back(frame.stream);
            }
            self.is_over |= match frame.kind {
                kind::RST_STREAM => self.resets.spend(&now),
                _ if frame.has_content() => self.controls.earn(CONTROLS_PER_CONTENT),
                kind::DATA if frame.flags & flag::END_STREAM != 0 => false,
                _ => self.controls.spend(&now),
            };
        });
    }

    /// The client is sent `bytes`.
    pub fn sent(&mut self, bytes: &[u8], now: impl Fn() -> Instant) {
        self.sent.through(bytes, |frame| {
            if frame.kind == kind::HEADERS {
                self.oversize += u32::from(take(&mut self.opened, frame.stream));
            }
            if frame.kind == kind::RST_STREAM {
                take(&mut self.opened, frame.stream);
                self.refused += u32::from(frame.code == code::REFUSED_STREAM);
                self.is_over |= is_provoked(frame.code) && self.resets.spend(&now);
            } else if frame.has_content() {
                self.controls.earn(CONTROLS_PER_CONTENT);
            }
        });
    }

    /// How many streams were refused since this was last asked: a client opens no more than it may
    /// at once, once it knows how many (RFC 9113 section 5.1.2).
    pub fn take_refused(&mut self) -> u32 {
        std::mem::take(&mut self.refused)
    }

    /// `stream` was taken up: whoever did answers it.
    pub fn accepted(&mut self, stream: u32) {
        take(&mut self.opened, stream);
    }

    /// How many requests were answered that nobody took up, since this was last asked: h2 says 431
    /// itself to a head that it will not hold, and tells nobody.
    pub fn take_oversize(&mut self) -> u32 {
        std::mem::take(&mut self.oversize)
    }

    /// What the client is told of the connection's end: GOAWAY with `ENHANCE_YOUR_CALM`
    /// (RFC 9113 section 6.8); `None` within a frame.
    pub fn goodbye(&self) -> Option<[u8; 17]> {
        if !self.sent.is_between_frames() {
            return None;
        }
        let mut frame = [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        frame[9..13].copy_from_slice(&self.last_stream.to_be_bytes());
        frame[13..].copy_from_slice(&code::ENHANCE_YOUR_CALM.to_be_bytes());
        Some(frame)
    }
}

/// Takes `stream` out of `streams`, which are in order; whether it was there.
fn take(streams: &mut VecDeque<u32>, stream: u32) -> bool {
    let found = streams.binary_search(&stream);
    found.is_ok_and(|at| streams.remove(at).is_some())
}

// === impl Walk ===

impl Walk {
    /// Frames that begin after so many bytes.
    fn after(skip: u32) -> Self {
        Self {
            head: [0; 13],
            has: 0,
            skip,
        }
    }

    /// Goes on through `bytes`; `seen` is told of each frame whose header is there.
    fn through(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        loop {
            let skipped = bytes.len().min(self.skip as usize);
            bytes = &bytes[skipped..];
            // Not above what is to be skipped, which is a u32.
            self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
            let more = bytes.len().min(self.wants() - self.has);
            if more == 0 {
                return;
            }
            self.head[self.has..self.has + more].copy_from_slice(&bytes[..more]);
            self.has += more;
            bytes = &bytes[more..];
            if self.has == self.wants() {
                let frame = self.frame();
                self.skip = frame.len - if self.has > 9 { 4 } else { 0 };
                self.has = 0;
                seen(frame);
            }
        }
    }

    /// How much of a frame is read: its header, and the error code if there is one.
    fn wants(&self) -> usize {
        let is_reset = self.has >= 9 && self.head[3] == kind::RST_STREAM;
        if is_reset && self.head[..3] == [0, 0, 4] {
            13
        } else {
            9
        }
    }

    fn frame(&self) -> Frame {
        let [a, b, c, kind, flags, rest @ ..] = self.head;
        let [s0, s1, s2, s3, code @ ..] = rest;
        Frame {
            len: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            code: u32::from_be_bytes(code),
        }
    }

    fn is_between_frames(&self) -> bool {
        self.has == 0 && self.skip == 0
    }
}

impl Frame {
    /// Whether it brings anybody anything.
    fn has_content(self) -> bool {
        match self.kind {
            kind::HEADERS => true,
            kind::DATA if self.flags & flag::PADDED != 0 => self.len > PADDING_MAX,
            kind::DATA => self.len > 0,
            _ => false,
        }
    }
}

// === impl Budget ===

impl Budget {
    fn new(max: u32, since: Instant) -> Self {
        Self {
            max,
            count: 0,
            since,
        }
    }

    /// Counts one event; whether they are too many. The clock is asked only when they are as many
    /// as may happen in a second, to see whether it was one.
    fn spend(&mut self, now: impl Fn() -> Instant) -> bool {
        self.count += 1;
        if self.count <= self.max {
            return false;
        }
        let now = now();
        let is_over = now.saturating_duration_since(self.since) < Duration::from_secs(1);
        (self.since, self.count) = (now, 1);
        is_over
    }

    /// Excuses `events` that happened. Never too many.
    fn earn(&mut self, events: u32) -> bool {
        self.count = self.count.saturating_sub(events);
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()];
        [&head.concat(), payload].concat()
    }

    const PING: u8 = 6;

    /// A connection that may have 10 resets a second, and its beginning.
    fn watch() -> (FloodWatch, Instant) {
        let begin = tokio::time::Instant::now().into_std();
        let mut watch = FloodWatch::new(10, begin);
        watch.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || begin);
        watch.received(&frame(4, 0, 0, &[0; 6]), || begin);
        (watch, begin)
    }

    #[test]
    fn more_resets_than_may_happen_in_a_second_are_a_flood() {
        let reset = frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        let (mut fast, begin) = watch();
        fast.received(&reset.repeat(10), || begin);
        assert!(!fast.is_over());
        fast.received(&reset, || begin + Duration::from_millis(999));
        assert!(fast.is_over());
        let (mut slow, begin) = watch();
        for second in 0..5 {
            slow.received(&reset.repeat(10), || begin + Duration::from_secs(second));
        }
        assert!(!slow.is_over());
    }

    #[test]
    fn of_the_resets_that_are_sent_those_count_that_were_provoked() {
        let reset = |code| frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, code]);
        for (code, counts) in [
            (0, false),
            (1, true),
            (2, false),
            (3, true),
            (5, true),
            (7, false),
        ] {
            let (mut watch, begin) = watch();
            watch.sent(&reset(code).repeat(11), || begin);
            assert_eq!(watch.is_over(), counts, "{code}");
        }
    }

    #[test]
    fn content_excuses_frames_without() {
        let ping = frame(PING, 0, 0, &[0; 8]);
        let data = frame(kind::DATA, 0, 1, b"x");
        let padded = frame(kind::DATA, flag::PADDED, 1, &[9; 10]);
        let last = frame(kind::DATA, flag::END_STREAM, 1, b"");
        let ends = |frames: &[&[u8]]| {
            let (mut watch, begin) = watch();
            watch.received(&frames.concat().repeat(50), || begin);
            watch.is_over()
        };
        assert!(!ends(&[&ping]));
        assert!(ends(&[&ping, &ping, &ping]));
        assert!(!ends(&[&ping, &ping, &ping, &data]));
        assert!(ends(&[&ping, &ping, &padded]));
        assert!(!ends(&[&ping, &last]));
        assert!(ends(&[&ping, &ping, &last]));
        let (mut watch, begin) = watch();
        for _ in 0..50 {
            watch.received(&ping.repeat(8), || begin);
            watch.sent(&data, || begin);
        }
        assert!(!watch.is_over());
    }

    #[test]
    fn the_goodbye_names_the_last_stream_and_comes_between_frames() {
        let (mut watch, begin) = watch();
        watch.received(&frame(kind::HEADERS, 4, 7, b"\x82"), || begin);
        let whole = frame(kind::DATA, 0, 1, b"hello");
        watch.sent(&whole[..11], || begin);
        assert_eq!(watch.goodbye(), None);
        watch.sent(&whole[11..], || begin);
        let goodbye = watch.goodbye().unwrap();
        assert_eq!(goodbye[..], frame(7, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 11]));
    }

    #[test]
    fn a_head_that_nobody_took_up_was_answered_for_its_size() {
        let (mut watch, begin) = watch();
        let head = |stream| frame(kind::HEADERS, 4, stream, b"\x82");
        let reset = frame(kind::RST_STREAM, 0, 5, &[0, 0, 0, 1]);
        watch.received(&[head(1), head(3), head(5)].concat(), || begin);
        watch.accepted(3);
        // Two heads of one stream: the second are trailers.
        let answers = [head(1), head(3), head(3), reset, head(1)];
        watch.sent(&answers.concat(), || begin);
        assert_eq!((watch.take_oversize(), watch.take_oversize()), (1, 0));
        assert!(watch.opened.is_empty());
        for at in 0..5000 {
            watch.received(&head(2 * at + 7), || begin);
        }
        assert_eq!(watch.opened.len(), OPENED_MAX);
    }

    proptest! {
        #[test]
        fn frames_are_the_same_in_whatever_pieces_they_come(
            frames in prop::collection::vec((0..10_u8, 0..20_usize), 1..20),
            cuts in prop::collection::vec(1..30_usize, 1..50),
        ) {
            let bytes: Vec<_> = frames
                .iter()
                .flat_map(|&(kind, len)| frame(kind, 0, 1, &vec![0xff; len]))
                .collect();
            let (mut walk, mut seen) = (Walk::after(0), Vec::new());
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                walk.through(piece, |it| seen.push((it.kind, it.len as usize)));
                rest = more;
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(walk.is_between_frames());
        }
    }
}
