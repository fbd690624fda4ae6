//! Answers to datagrams, given to the kernel together: most of what an answer costs is the way there.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Most that are given at once.
const MOST: usize = 16;

/// Answers that wait to be sent.
pub(super) struct Answers {
    headers: MultiHeaders<SockaddrStorage>,
    texts: [Vec<u8>; MOST],
    /// Whom those of `texts` are for that wait.
    clients: Vec<Option<SockaddrStorage>>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            headers: MultiHeaders::preallocate(MOST, None),
            texts: std::array::from_fn(|_| Vec::with_capacity(512)),
            clients: Vec::with_capacity(MOST),
        }
    }
}

impl Answers {
    /// Where the next answer is written, which is sent by `socket` only when it is [kept](Self::keep).
    pub fn next(&mut self, socket: &UdpSocket) -> &mut Vec<u8> {
        if self.clients.len() == MOST {
            self.send(socket);
        }
        &mut self.texts[self.clients.len()]
    }

    /// What was written last is for `client`.
    pub fn keep(&mut self, client: SocketAddr) {
        self.clients.push(Some(client.into()));
    }

    /// Sends all that wait. A client that does not take answers gets none.
    pub fn send(&mut self, socket: &UdpSocket) {
        let slices = self.texts.each_ref().map(|text| [IoSlice::new(text)]);
        let mut done = 0;
        while done < self.clients.len() {
            let sent = socket.try_io(Interest::WRITABLE, || {
                let (slices, clients) = (&slices[done..], &self.clients[done..]);
                let flags = MsgFlags::MSG_DONTWAIT;
                Ok(sendmmsg(socket.as_raw_fd(), &mut self.headers, slices, clients, [], flags)?.count())
            });
            match sent {
                Ok(sent) => done += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // It is about the first of them.
                Err(_) => done += 1,
            }
        }
        self.clients.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    async fn socket() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port")
    }

    /// More than go at once, to several clients, one of whom cannot be sent to.
    #[tokio::test]
    async fn each_client_gets_its_own_and_one_that_takes_none_is_in_nobodys_way() {
        let (server, one, two) = (socket().await, socket().await, socket().await);
        server.writable().await.expect("a socket");
        let mut answers = Answers::default();
        let address = |socket: &UdpSocket| socket.local_addr().expect("bound");
        let unreachable = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
        for number in 0..40_u8 {
            for client in [address(&one), unreachable, address(&two)] {
                let text = answers.next(&server);
                text.clear();
                text.extend([number; 3]);
                answers.keep(client);
            }
        }
        answers.next(&server).push(255);
        answers.send(&server);
        answers.send(&server);
        for client in [one, two] {
            let mut heard = [0; 8];
            for number in 0..40_u8 {
                let length = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut heard)).await;
                assert_eq!(length.expect("in time").expect("a datagram"), 3, "{number}");
                assert_eq!(heard[..3], [number; 3]);
            }
            assert!(client.try_recv(&mut heard).is_err(), "what was not kept is not sent, and nothing twice");
        }
    }
}
