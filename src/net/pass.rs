//! Descriptors that go from process to process beside bytes (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// How many go with one message (`SCM_MAX_FD`).
const PASSED_MAX: usize = 253;

/// The room that they take.
const ROOM: usize = rustix::cmsg_space!(ScmRights(PASSED_MAX));

/// Sends `bytes` by the Unix socket, and with the first of them `descriptors`; how many bytes were sent.
///
/// # Errors
/// When there are too many descriptors, or the socket cannot be written to.
pub fn send_with(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if descriptors.len() > PASSED_MAX || !control.push(SendAncillaryMessage::ScmRights(descriptors))
    {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    );
    Ok(sent?)
}

/// Reads bytes from the Unix socket, and takes the descriptors that come with them; they are closed by
/// `exec`.
///
/// # Errors
/// When it cannot be read.
pub fn receive_with(
    socket: impl AsFd,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut bytes = [IoSliceMut::new(bytes)];
    let read = recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_listening_socket_goes_with_the_first_byte() {
        let (from, to) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(send_with(&from, b"one\n", &[listener.as_fd()]).unwrap(), 4);
        drop(listener);
        let (mut bytes, mut passed) = ([0; 16], Vec::new());
        assert_eq!(receive_with(&to, &mut bytes, &mut passed).unwrap(), 4);
        let listener = TcpListener::from(passed.pop().unwrap());
        assert!(passed.is_empty());
        let mut client = TcpStream::connect(address).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut bytes).unwrap(), 0);
    }

    #[test]
    fn what_is_too_many_is_refused() {
        let (from, _to) = UnixStream::pair().unwrap();
        let many = [from.as_fd(); PASSED_MAX + 1];
        assert!(send_with(&from, b"x", &many).is_err());
        assert!(send_with(&from, b"x", &many[1..]).is_ok());
    }
}
