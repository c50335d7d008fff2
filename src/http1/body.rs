//! Pure: the body of a message, taken out of its framing (RFC 9112 sections 6 and 7).

use http::HeaderMap;

use super::framing::Length;
use super::{EXTENSIONS_MAX, Error, FIELDS_MAX, TRAILERS_MAX, ends_lines_with_crlf};
use crate::head::{FieldLine, Known};

/// The longest chunk size, in hexadecimal digits: 64 bits.
const SIZE_DIGITS: u8 = 16;

/// A body being read: fed with what was read, it says what of it is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are left.
    Exact(u64),
    UntilClose,
    Chunked {
        chunk: Chunk,
        extensions: u64,
    },
    End,
    /// It was framed wrongly: where it would end cannot be known any more.
    Failed,
}

/// Where in a chunk the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers,
}

/// What the next bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of framing before it, to be skipped.
    pub skip: usize,
    /// What follows them.
    pub step: Step,
}

/// What follows the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of data, one at least.
    Data(usize),
    /// A trailer section of so many bytes, its empty line included; the body ends with it.
    Trailers(usize),
    /// The end of the body: what follows belongs to the next message.
    End,
    /// More must be read.
    Incomplete,
}

impl Decoder {
    /// The decoder of a body of this length; of a tunnel all that comes is data.
    pub fn new(length: Length) -> Self {
        Self(match length {
            Length::Empty => State::End,
            Length::Exact(bytes) => State::Exact(bytes),
            Length::Chunked => State::Chunked {
                chunk: Chunk::Size { size: 0, digits: 0 },
                extensions: 0,
            },
            Length::UntilClose | Length::Tunnel => State::UntilClose,
        })
    }

    /// The decoder of no body.
    pub fn ended() -> Self {
        Self(State::End)
    }

    /// Whether the body has ended.
    pub fn is_at_end(&self) -> bool {
        self.0 == State::End
    }

    /// The bytes that are still to come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Exact(left) => Some(left),
            State::End => Some(0),
            State::UntilClose | State::Chunked { .. } | State::Failed => None,
        }
    }

    /// What the first bytes of `input` are, which follow those of earlier calls. What it says is
    /// taken: the next call wants what comes after.
    ///
    /// # Errors
    /// When they are not framed as they should be; nothing more can be read of the body.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Error> {
        let plain = |step| Ok(Decoded { skip: 0, step });
        match &mut self.0 {
            State::End => plain(Step::End),
            State::Failed => Err(Error::Chunk),
            _ if input.is_empty() => plain(Step::Incomplete),
            State::UntilClose => plain(Step::Data(input.len())),
            State::Exact(left) => {
                let taken = take(left, input.len());
                if *left == 0 {
                    self.0 = State::End;
                }
                plain(Step::Data(taken))
            }
            State::Chunked { chunk, extensions } => {
                let decoded = chunk.decode(input, extensions);
                match decoded.map(|it| it.step) {
                    Ok(Step::Trailers(_) | Step::End) => self.0 = State::End,
                    Ok(Step::Data(_) | Step::Incomplete) => {}
                    Err(_) => self.0 = State::Failed,
                }
                decoded
            }
        }
    }

    /// The input has ended.
    ///
    /// # Errors
    /// When the body has not.
    pub fn end_of_input(&mut self) -> Result<(), Error> {
        match self.0 {
            State::End | State::UntilClose => {
                self.0 = State::End;
                Ok(())
            }
            State::Exact(_) | State::Chunked { .. } | State::Failed => Err(Error::Truncated),
        }
    }
}

/// Takes as much of `left` as there is.
fn take(left: &mut u64, there: usize) -> usize {
    let taken = usize::try_from(*left).map_or(there, |left| left.min(there));
    *left -= taken as u64;
    taken
}

impl Chunk {
    fn decode(&mut self, input: &[u8], extensions: &mut u64) -> Result<Decoded, Error> {
        let mut skip = 0;
        while let Some(byte) = input.get(skip) {
            match &mut *self {
                Self::Data { left } => {
                    let taken = take(left, input.len() - skip);
                    if *left == 0 {
                        *self = Self::DataCr;
                    }
                    let step = Step::Data(taken);
                    return Ok(Decoded { skip, step });
                }
                Self::Trailers => {
                    let step = trailers(&input[skip..])?;
                    // An empty section is nothing but the CRLF that ends the body.
                    return Ok(match step {
                        Step::Trailers(2) => Decoded {
                            skip: skip + 2,
                            step: Step::End,
                        },
                        step => Decoded { skip, step },
                    });
                }
                framing => framing.take_byte(*byte, extensions)?,
            }
            skip += 1;
        }
        let step = Step::Incomplete;
        Ok(Decoded { skip, step })
    }

    /// RFC 9112 7.1: `chunk-size [ chunk-ext ] CRLF chunk-data CRLF`.
    fn take_byte(&mut self, byte: u8, extensions: &mut u64) -> Result<(), Error> {
        *self = match (*self, byte) {
            (Self::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if digits < SIZE_DIGITS =>
            {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                let size = size << 4 | u64::from(digit);
                let digits = digits + 1;
                Self::Size { size, digits }
            }
            (Self::Size { size, digits: 1.. } | Self::Extension { size }, b'\r') => {
                Self::SizeLf { size }
            }
            (Self::Size { size, digits: 1.. }, b';') => Self::Extension { size },
            // A bare LF ends a line for some: it ends the message here.
            (Self::Extension { size }, byte) if byte != b'\n' => {
                *extensions += 1;
                if *extensions > EXTENSIONS_MAX {
                    return Err(Error::ChunkOverhead);
                }
                Self::Extension { size }
            }
            (Self::SizeLf { size: 0 }, b'\n') => Self::Trailers,
            (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            _ => return Err(Error::Chunk),
        };
        Ok(())
    }
}

/// How long the trailer section at the start of `input` is, once it is whole (RFC 9112 7.1.2).
fn trailers(input: &[u8]) -> Result<Step, Error> {
    let whole = match input {
        [b'\r', b'\n', ..] => Some(2),
        _ => memchr::memmem::find(input, b"\r\n\r\n").map(|at| at + 4),
    };
    match whole {
        Some(len) if len <= TRAILERS_MAX => {
            parse_trailers(&input[..len])?;
            Ok(Step::Trailers(len))
        }
        None if input.len() < TRAILERS_MAX => Ok(Step::Incomplete),
        _ => Err(Error::ChunkOverhead),
    }
}

/// The fields of a whole trailer section.
///
/// # Errors
/// When they are none.
pub fn parse_trailers(section: &[u8]) -> Result<HeaderMap, Error> {
    let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let parsed = httparse::parse_headers(section, &mut headers)?;
    let httparse::Status::Complete((len, fields)) = parsed else {
        return Err(Error::Field);
    };
    if len != section.len() || !ends_lines_with_crlf(section) {
        return Err(Error::LineEnd);
    }
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = field.name.as_bytes();
        let line = FieldLine::Raw(Known::of(name), name, field.value);
        line.append_to(&mut map).map_err(|_| Error::Field)?;
    }
    Ok(map)
}
