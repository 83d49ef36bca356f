//! A connection inside the process.
//!
//! The vhost-user library takes its connection from a listening socket only. This makes one for a
//! single connection, without a file and without a moment in which somebody else's connection
//! could be taken for ours.

use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
    socket_with,
};

/// A listener with exactly one connection waiting in it, and the other side of that connection.
///
/// The listener has an abstract name that the kernel picks (autobind, unix(7)); with a network
/// namespace of its own, the link is alone with it. Elsewhere another process could connect, so
/// the listener's queue holds one connection: if ours got in, nobody else's did.
pub fn private_connection() -> rustix::io::Result<(UnixListener, UnixStream)> {
    let flags = SocketFlags::CLOEXEC;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&listener, &SocketAddrUnix::new_unnamed())?;
    listen(&listener, 0)?;
    let address = SocketAddrUnix::try_from(getsockname(&listener)?)?;
    // Non-blocking, so that a full queue is an error and not a wait.
    let stream =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags | SocketFlags::NONBLOCK, None)?;
    connect(&stream, &address)?;
    let status = fcntl_getfl(&stream)?;
    fcntl_setfl(&stream, status - OFlags::NONBLOCK)?;
    Ok((UnixListener::from(listener), UnixStream::from(stream)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn the_one_connection_is_ours_and_no_other_fits() {
        let (listener, mut stream) = private_connection().unwrap();
        let address = listener.local_addr().unwrap();
        let other = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let name = address_name(&address);
        let refused = connect(&other, &SocketAddrUnix::new_abstract_name(&name).unwrap());
        assert_eq!(refused, Err(rustix::io::Errno::AGAIN));
        let (mut accepted, _) = listener.accept().unwrap();
        stream.write_all(b"ours").unwrap();
        let mut received = [0; 4];
        accepted.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"ours");
    }

    fn address_name(address: &std::os::unix::net::SocketAddr) -> Vec<u8> {
        use std::os::linux::net::SocketAddrExt;
        address.as_abstract_name().unwrap().to_vec()
    }
}
