//! The child: one thread, one task, inside the sandbox's namespaces.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::adapter::{DeadEnd, Installed, engines_network};
use super::channel::{Channel, DESCRIPTORS, wait_for};
use super::enter::{Inside, enter};
use super::error::Refusal;
use super::gate::{GATE, READY};
use super::wire::{Feed, Reply, Request, Role, Task};
use super::{Adapter, Report, kernel, socket};
use crate::networks::Networks;
use crate::nft;
use crate::synthetic::ADAPTER_V6;

/// How long is waited for PID 1 to come to its gate. It does so within milliseconds of its start; whoever asked comes again
/// for one that takes longer.
const GATE_PATIENCE: Duration = Duration::from_millis(100);

/// Entries of a table that one message tells of; messages have a bound.
const STANDING: usize = 256;

/// Between two looks whether PID 1 has come to its gate.
const GATE_PERIOD: Duration = Duration::from_millis(5);

/// Does the one task that comes over standard input, and ends. To be called before anything else of the program, since
/// no other thread may exist; in particular before an async runtime does.
pub fn main() -> ExitCode {
    let Ok(end) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let channel = Channel::from_end(end);
    let (stays, answer) = match take(&channel) {
        Ok(Done { stays, report }) => (stays, Reply::Done(report)),
        Err(refusal) => (None, Reply::Refused(refusal)),
    };
    // Whoever asked may be gone.
    match (channel.send(&answer, &[]), stays) {
        (Ok(()), Some(inside)) => stay(&channel, &inside),
        (Ok(()), None) => ExitCode::SUCCESS,
        (Err(_), _) => ExitCode::FAILURE,
    }
}

/// Gives rules to the kernel until the daemon has none any more, or the sandbox has ended: its network namespace would
/// live on with us.
fn stay(channel: &Channel, inside: &Inside) -> ExitCode {
    let mut whole = String::new();
    while channel.wait_unless(inside.pidfd()) {
        let Ok(Some((Feed { rules, last }, _))) = channel.receive() else { break };
        whole.push_str(&rules);
        if !last {
            continue;
        }
        let given = nft::start(&std::mem::take(&mut whole)).and_then(|running| running.finish(channel.end()));
        let answer = match given {
            Ok(()) => Reply::Done(None),
            Err(refusal) => Reply::Refused(refusal),
        };
        if channel.send(&answer, &[]).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// What came of a task.
#[derive(Default)]
struct Done {
    stays: Option<Inside>,
    report: Option<Report>,
}

fn take(channel: &Channel) -> Result<Done, Refusal> {
    let unheard = |error: io::Error| Refusal::Helper { what: format!("did not understand its task: {error}") };
    let (request, descriptors) =
        channel.receive::<Request>().map_err(unheard)?.ok_or_else(|| unheard(io::ErrorKind::UnexpectedEof.into()))?;
    #[cfg(feature = "failpoints")]
    crate::defence::turn_off_numbers(request.without);
    let Request { pid, started, task, .. } = request;
    let pidfd = descriptors.into_iter().next().ok_or_else(|| unheard(io::ErrorKind::InvalidInput.into()))?;
    let inside = enter(pid, started, pidfd)?;
    match task {
        Task::Attach { udp, networks, gate } => {
            let report = attach(channel, &inside, &udp, &networks, gate)?;
            Ok(Done { stays: None, report: Some(report) })
        }
        Task::Closed { networks, gate } => {
            nft::install(&nft::allowlist(&networks))?.finish(channel.end())?;
            let mut sockets = Vec::new();
            sockets.extend(through_gate(&inside, gate)?);
            pass(channel, &sockets)?;
            let ipv6 = socket::has_address(Ipv6Addr::LOCALHOST);
            let report = Report { adapter: Adapter::Nothing, ipv6, problems: Vec::new() };
            Ok(Done { stays: None, report: Some(report) })
        }
        Task::Direct { gate } => {
            let report = direct(channel, &inside, gate).inspect_err(|_| {
                // Nobody would judge what is open any more, nor take back what a change closes. Whatever becomes of that,
                // the sandbox is not served, and that is what is told.
                drop(shut(channel));
            })?;
            Ok(Done { stays: Some(inside), report: Some(report) })
        }
        Task::Shut => {
            shut(channel)?;
            Ok(Done::default())
        }
        Task::Udp { ports } => {
            let sockets = socket::relays(&ports, socket::has_address(ADAPTER_V6))?;
            pass(channel, &sockets)?;
            Ok(Done::default())
        }
        Task::Networks { networks } => {
            nft::start(&nft::allowlist(&networks))?.finish(channel.end())?;
            Ok(Done::default())
        }
    }
}

/// Puts rules in force by which nothing is open.
fn shut(channel: &Channel) -> Result<(), Refusal> {
    nft::install(&nft::direct(&Networks::default(), &[]))?.finish(channel.end())
}

/// # Guarantees
/// Until there are rules, nothing is open; those that there are stand until the daemon has judged them.
fn direct(channel: &Channel, inside: &Inside, gate: bool) -> Result<Report, Refusal> {
    // What was open stays so until the daemon has judged it: that is the first thing it does.
    let standing = nft::listed().and_then(|listed| nft::standing(&listed));
    if standing.is_none() {
        shut(channel)?;
    }
    for part in standing.unwrap_or_default().chunks(STANDING) {
        channel
            .send(&Reply::Standing(part.to_vec()), &[])
            .map_err(|error| Refusal::inside("tell what is open in", error))?;
    }
    let installed = engines_network()?;
    serve(channel, inside, &BTreeSet::new(), gate, installed)
}

/// # Guarantees
/// The rules are in force before any socket is made, and a failure leaves them in force.
fn attach(
    channel: &Channel,
    inside: &Inside,
    udp: &BTreeSet<u16>,
    networks: &Networks,
    gate: bool,
) -> Result<Report, Refusal> {
    #[cfg(feature = "failpoints")]
    if gate && crate::defence::Defence::Gate.is_off() {
        open_too_early(inside)?;
    }
    let rules = nft::install(&nft::allowlist(networks))?;
    // It takes about as long as the rules, and is connected only when they are there: nothing meets it before.
    let dead_end = DeadEnd::make();
    rules.finish(channel.end())?;
    serve(channel, inside, udp, gate, dead_end?.connect()?)
}

/// Makes the sockets and reaches for the gate, when nothing leaves any more but through them.
fn serve(
    channel: &Channel,
    inside: &Inside,
    udp: &BTreeSet<u16>,
    gate: bool,
    installed: Installed,
) -> Result<Report, Refusal> {
    let Installed { adapter, ipv6, problems } = installed;
    let mut sockets = socket::listeners(ipv6)?;
    sockets.extend(socket::relays(udp, ipv6)?);
    sockets.extend(through_gate(inside, gate)?);
    pass(channel, &sockets)?;
    Ok(Report { adapter, ipv6, problems })
}

/// What holds PID 1, if it waits.
fn through_gate(inside: &Inside, gate: bool) -> Result<Option<(Role, OwnedFd)>, Refusal> {
    Ok(if gate { reach_gate(inside)?.map(|gate| (Role::Gate, gate)) } else { None })
}

/// What the gate is there to prevent, for tests.
#[cfg(feature = "failpoints")]
fn open_too_early(inside: &Inside) -> Result<(), Refusal> {
    let early = |error| Refusal::inside("open the gate too early", error);
    if let Some(gate) = reach_gate(inside)? {
        super::Gate(gate.into()).open().map_err(early)?;
        // Its command runs once PID 1 says so.
        while inside.name().is_some_and(|name| name != READY) {
            if wait_for(inside.pidfd(), GATE_PERIOD).unwrap_or(true) {
                break;
            }
        }
    }
    Ok(())
}

fn pass(channel: &Channel, sockets: &[(Role, OwnedFd)]) -> Result<(), Refusal> {
    for part in sockets.chunks(DESCRIPTORS) {
        let roles = part.iter().map(|(role, _)| *role).collect();
        let descriptors: Vec<BorrowedFd<'_>> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
        channel
            .send(&Reply::Sockets(roles), &descriptors)
            .map_err(|error| Refusal::inside("pass the sockets out of", error))?;
    }
    Ok(())
}

/// Connects without waiting: whoever has the name may keep its queue full.
fn connect(address: &SocketAddrUnix) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Connects to the gate; none when PID 1 is past it.
///
/// PID 1 tells by its name that it is past. It could lie, or another process of its user could give it another name. Then
/// nobody is reached, and others wait no longer for it than they do for anybody.
fn reach_gate(inside: &Inside) -> Result<Option<OwnedFd>, Refusal> {
    let address = SocketAddrUnix::new_abstract_name(GATE)
        .map_err(|error| Refusal::inside("name the gate", io::Error::from(error)))?;
    let deadline = Instant::now() + GATE_PATIENCE;
    loop {
        // The name first: a PID 1 that was not ready before the attempt may have opened its gate since.
        let ready = inside.name().is_some_and(|name| name == READY);
        match connect(&address) {
            // After the gate has closed, anybody inside can take its name.
            Ok(gate) if kernel::peer(&gate).is_ok_and(|process| process == inside.pid()) => {
                return Ok(Some(gate.into()));
            }
            _ if ready => return Ok(None),
            _ => {}
        }
        if Instant::now() >= deadline {
            return Err(Refusal::NoGate);
        }
        // Ends early, and for good, when PID 1 does.
        if wait_for(inside.pidfd(), GATE_PERIOD).unwrap_or(false) {
            return Err(Refusal::Gone { pid: inside.pid() });
        }
    }
}
