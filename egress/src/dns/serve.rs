//! Questions over UDP and TCP.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answers::Answers;
use super::{MAX_MESSAGE, Reply, Resolver};
use crate::defence::Defence;
use crate::permit::Permit;
use crate::shared::Shared;
use crate::tasks::Tasks;
use crate::throttle::Pace;

/// Questions answered in a row before others have their turn.
const BATCH: usize = 16;

/// How long nobody is answered when there are too many questions. What the socket cannot hold meanwhile is dropped by the
/// kernel, at the expense of whoever sends it.
const PAUSE: Duration = Duration::from_millis(2);

/// A message of a client. Longer ones are answered as what they are: malformed.
type Message = [u8; MAX_MESSAGE + 1];

/// What a turn takes and gives.
struct Messages {
    requests: Vec<Message>,
    answers: Answers,
}

thread_local! {
    /// Of use for as long as a turn takes, and there are as many at once as there are threads.
    static MESSAGES: RefCell<Messages> =
        RefCell::new(Messages { requests: vec![[0; MAX_MESSAGE + 1]; BATCH], answers: Answers::default() });
}

/// Answers datagrams, for as long as it is polled.
pub(crate) async fn serve_udp(
    socket: &Arc<UdpSocket>,
    resolver: &Arc<Mutex<Resolver>>,
    shared: &Arc<Shared>,
    lookups: &Arc<Semaphore>,
    tasks: &Tasks,
) {
    let Ok(state) = UdpSocketState::new(UdpSockRef::from(&**socket)) else { return };
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        let turn = Turn { socket, state: &state, resolver, lookups, of_all: &shared.sockets, tasks };
        let (more, too_many) = MESSAGES.with_borrow_mut(|messages| turn.take(messages));
        if too_many {
            tokio::time::sleep(PAUSE).await;
        } else if more {
            tokio::task::yield_now().await;
        }
    }
}

/// What is needed to answer some questions.
struct Turn<'a> {
    socket: &'a Arc<UdpSocket>,
    state: &'a UdpSocketState,
    resolver: &'a Arc<Mutex<Resolver>>,
    /// Places for questions whose answers are looked for, and for sockets of all sandboxes.
    lookups: &'a Arc<Semaphore>,
    of_all: &'a Arc<Semaphore>,
    tasks: &'a Tasks,
}

impl Turn<'_> {
    /// Answers what has come; whether there may be more, and whether there was too much.
    fn take(&self, Messages { requests, answers }: &mut Messages) -> (bool, bool) {
        let Self { socket, state, resolver: own, lookups, of_all, tasks } = *self;
        let mut resolver = lock(own);
        resolver.refresh();
        let now = Instant::now();
        let mut meta = [RecvMeta::default(); BATCH];
        let mut received = 0;
        // An error is what an earlier answer met: nobody listens any more.
        let _ = socket.try_io(Interest::READABLE, || {
            let mut buffers = requests.iter_mut().map(|request| IoSliceMut::new(request));
            let mut buffers: [IoSliceMut<'_>; BATCH] =
                std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            received = state.recv(UdpSockRef::from(&**socket), &mut buffers, &mut meta)?;
            // There are no more, which asking once more would only say.
            if received < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        let datagrams = requests.iter().zip(&meta[..received]).flat_map(|(request, meta)| {
            // Several of one sender may come as one.
            request[..meta.len].chunks(meta.stride.max(1)).map(|datagram| (datagram, meta.addr))
        });
        for (request, client) in datagrams {
            match resolver.answer(request, answers.next(socket), now) {
                Reply::Silence => {}
                Reply::TooMany => {
                    answers.send(socket);
                    return (true, true);
                }
                Reply::Ready => answers.keep(client),
                Reply::Later(later) => {
                    let Some(permit) = Permit::take(lookups, of_all) else {
                        resolver.refusals.name(later.name.as_str(), "too-many-questions");
                        continue;
                    };
                    let (socket, resolver) = (Arc::clone(socket), Arc::clone(own));
                    tasks.spawn(async move {
                        let found = later.meaning().await;
                        let mut response = Vec::with_capacity(512);
                        if lock(&resolver).finish(&later, found, &mut response) {
                            let _ = socket.try_send_to(&response, client);
                        }
                        drop(permit);
                    });
                }
            }
        }
        answers.send(socket);
        (received == BATCH, false)
    }
}

/// Answers connections, for as long as it is polled.
pub(crate) async fn serve_tcp(
    listener: &TcpListener,
    resolver: &Arc<Mutex<Resolver>>,
    shared: &Arc<Shared>,
    pace: &Pace,
    clients: &Arc<Semaphore>,
    tasks: &Tasks,
) {
    loop {
        pace.turn().await;
        let Some(stream) = crate::accept::next(listener).await else { return };
        // One too many is told so at once rather than left to wait.
        let permit = Permit::take(clients, &shared.sockets);
        if permit.is_none() && !Defence::DnsClients.is_off() {
            lock(resolver).refusals.name("", "too-many-connections");
            crate::accept::reset(&stream);
            continue;
        }
        let (resolver, idle) = (Arc::clone(resolver), shared.limits.dns_idle);
        tasks.spawn(async move {
            let _permit = permit;
            let mut stream = stream;
            while let Ok(Ok(true)) = timeout(idle, exchange(&mut stream, &resolver)).await {}
        });
    }
}

fn lock(resolver: &Mutex<Resolver>) -> MutexGuard<'_, Resolver> {
    resolver.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One question and its answer; whether there may be another.
async fn exchange(stream: &mut TcpStream, resolver: &Mutex<Resolver>) -> io::Result<bool> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_MESSAGE {
        return Ok(false);
    }
    let mut request = vec![0; length];
    stream.read_exact(&mut request).await?;
    let mut framed = vec![0; 2];
    let mut response = Vec::with_capacity(512);
    let reply = {
        let mut resolver = lock(resolver);
        resolver.refresh();
        resolver.answer(&request, &mut response, Instant::now())
    };
    match reply {
        Reply::Silence | Reply::TooMany => return Ok(false),
        Reply::Ready => {}
        Reply::Later(later) => {
            let found = later.meaning().await;
            if !lock(resolver).finish(&later, found, &mut response) {
                return Ok(false);
            }
        }
    }
    framed.extend_from_slice(&response);
    let length = u16::try_from(framed.len() - 2).map_err(io::Error::other)?;
    framed[..2].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&framed).await?;
    Ok(true)
}
