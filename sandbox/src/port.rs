//! Ports that are kept while nobody listens on them.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// Connections the kernel may queue while all of ours are busy.
pub(crate) const BACKLOG: u32 = 1_024;

/// Takes a port without listening on it yet.
pub(crate) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections of a moment ago linger on the port; they are no reason to refuse it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
