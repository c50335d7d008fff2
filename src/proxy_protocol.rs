//! Pure: the PROXY protocol, by which whoever passes a connection on says whose it is.
//!
//! Versions 1 and 2 of the specification (W. Tarreau, *The PROXY protocol*, doc/proxy-protocol.txt of
//! `HAProxy`), as strict as it allows. What follows a header is not its own, so a reader is told how
//! many bytes it can take without taking more than the header. Kept here rather than left to a
//! library: those that there are take a bare CR for a space and `+80` for a port.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The two ends of a client's connection: the client's, and the one that it connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The client's address.
    pub client: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
}

/// How far a header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least so many bytes of it are still to come.
    Missing(usize),
    /// It is whole, and says whose the connection is: of this client, or, without one, of whoever
    /// made it.
    Whole(Option<SocketAddr>),
}

/// What is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It begins like neither version.
    #[error("a PROXY protocol header was expected")]
    Signature,
    /// It is a line that says no two ends.
    #[error("the PROXY protocol's line is none")]
    Line,
    /// It is of another version, or has a command that there is not.
    #[error("the PROXY protocol's version or command is unknown")]
    Command,
    /// It is shorter than what it says, or longer than [`HEADER_MAX`].
    #[error("the PROXY protocol's header has a wrong length")]
    Length,
}

/// The longest header: what fits the smallest TCP segment, as the specification means it to (section
/// 2).
pub const HEADER_MAX: usize = 536;

/// The shortest one: `PROXY UNKNOWN` and its line's end.
const SHORTEST: usize = 15;

/// The longest line, its end included (section 2.1).
const LINE_MAX: usize = 107;

const SIGNATURE_1: &[u8] = b"PROXY ";

/// Section 2.2.
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of version 2 that all headers have.
const FIXED: usize = 16;

/// Reads `bytes`, the beginning of a header, of which no byte is beyond its end.
///
/// # Errors
/// As soon as it cannot become one.
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let begins = |signature: &[u8]| {
        let both = bytes.len().min(signature.len());
        bytes[..both] == signature[..both]
    };
    if bytes.len() < SHORTEST {
        let either = begins(SIGNATURE_1) || begins(SIGNATURE_2);
        let missing = Progress::Missing(SHORTEST - bytes.len());
        return either.then_some(missing).ok_or(Malformed::Signature);
    }
    if begins(SIGNATURE_2) {
        return parse_binary(bytes);
    }
    if !begins(SIGNATURE_1) {
        return Err(Malformed::Signature);
    }
    match bytes.strip_suffix(b"\r\n") {
        Some(line) => parse_line(line).map(Progress::Whole),
        None if bytes.len() < LINE_MAX => Ok(Progress::Missing(1)),
        None => Err(Malformed::Length),
    }
}

/// The client that a line without its end names, if any (section 2.1).
fn parse_line(line: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    let line = std::str::from_utf8(&line[SIGNATURE_1.len()..]).map_err(|_| Malformed::Line)?;
    // Whatever follows is to be ignored, but for a line's end.
    let is_unknown = line == "UNKNOWN" || line.starts_with("UNKNOWN ");
    if is_unknown && !line.contains(['\r', '\n']) {
        return Ok(None);
    }
    client(line).map(Some).ok_or(Malformed::Line)
}

/// The client that the fields of a line name.
fn client(line: &str) -> Option<SocketAddr> {
    let parts: Vec<_> = line.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = parts[..] else {
        return None;
    };
    let (source, _) = match family {
        "TCP4" => two::<Ipv4Addr>(source, destination)?,
        "TCP6" => two::<Ipv6Addr>(source, destination)?,
        _ => return None,
    };
    let (port, _) = (port(source_port)?, port(destination_port)?);
    Some(SocketAddr::new(source.to_canonical(), port))
}

fn two<T: FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Option<(IpAddr, IpAddr)> {
    let address = |text: &str| text.parse::<T>().ok().map(Into::into);
    Some((address(source)?, address(destination)?))
}

/// A port without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|it| it.is_ascii_digit());
    let is_shortest = text == "0" || !text.starts_with('0');
    (is_number && is_shortest).then(|| text.parse().ok())?
}

/// Section 2.2.
fn parse_binary(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else {
        return Ok(Progress::Missing(FIXED - bytes.len()));
    };
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Command),
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED + length > HEADER_MAX || rest.len() > length {
        return Err(Malformed::Length);
    }
    if rest.len() < length {
        return Ok(Progress::Missing(length - rest.len()));
    }
    // Of connections that are no TCP the own ends are taken.
    let client = match fixed[13] {
        _ if is_local => None,
        0x11 => {
            let (ip, ports) = ends::<4>(rest)?;
            Some(SocketAddr::new(Ipv4Addr::from(ip).into(), ports))
        }
        0x21 => {
            let (ip, ports) = ends::<16>(rest)?;
            let ip = IpAddr::from(Ipv6Addr::from(ip)).to_canonical();
            Some(SocketAddr::new(ip, ports))
        }
        _ => None,
    };
    Ok(Progress::Whole(client))
}

/// The source's address and port of two ends with addresses of `N` bytes.
fn ends<const N: usize>(bytes: &[u8]) -> Result<([u8; N], u16), Malformed> {
    let ends = bytes.get(..2 * N + 4).ok_or(Malformed::Length)?;
    let (source, ports) = (ends.first_chunk(), &ends[2 * N..]);
    let source = *source.ok_or(Malformed::Length)?;
    Ok((source, u16::from_be_bytes([ports[0], ports[1]])))
}

/// The header by which keyway introduces a connection of the client at `ends`, or, without a client
/// that has an address, its own.
pub fn header(version: Version, ends: Option<Ends>) -> Vec<u8> {
    let mut header = Vec::with_capacity(LINE_MAX);
    match version {
        Version::V1 => line(&mut header, ends),
        Version::V2 => binary(&mut header, ends),
    }
    header
}

fn line(out: &mut Vec<u8>, ends: Option<Ends>) {
    let Some(Ends { client, local }) = ends else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let (source, destination, family) = match (client.ip(), local.ip()) {
        (source @ IpAddr::V4(_), destination @ IpAddr::V4(_)) => (source, destination, "TCP4"),
        (source, destination) => (v6(source).into(), v6(destination).into(), "TCP6"),
    };
    let (from, to) = (client.port(), local.port());
    // Writing to a Vec cannot fail.
    let _infallible = write!(out, "PROXY {family} {source} {destination} {from} {to}\r\n");
}

fn binary(out: &mut Vec<u8>, ends: Option<Ends>) {
    out.extend_from_slice(SIGNATURE_2);
    let Some(Ends { client, local }) = ends else {
        out.extend_from_slice(&[0x20, 0, 0, 0]);
        return;
    };
    match (client.ip(), local.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&v6(source).octets());
            out.extend_from_slice(&v6(destination).octets());
        }
    }
    out.extend_from_slice(&client.port().to_be_bytes());
    out.extend_from_slice(&local.port().to_be_bytes());
}

/// Both ends are of one family: that of the longer addresses.
fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests;
