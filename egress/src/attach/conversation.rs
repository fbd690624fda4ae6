//! The daemon's side: starting the child, and hearing what came of it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::channel::{Channel, wait_for};
use super::wire::{Feed, Reply, Request, Role, Task};
use super::{ARGUMENT, AttachError, Gate, Report, Standing, Target};
use crate::listeners::Listeners;

/// How long the child may take for all of it, which is milliseconds.
const DEADLINE: Duration = Duration::from_secs(15);

/// What came out of a namespace.
#[derive(Debug, Default)]
pub struct Answer {
    pub listeners: Listeners,
    pub gate: Option<Gate>,
    pub report: Option<Report>,
    /// What was open already.
    pub standing: Vec<Standing>,
}

/// Bytes of rules in one message; they are ASCII, and a message has a bound.
const PART: usize = 96 * 1024;

/// How long a child that stays may take to give rules to the kernel.
const FEED_DEADLINE: Duration = Duration::from_secs(5);

/// How long what was killed may take to end: no longer than what the kernel does for it at that moment.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Has `task` done inside `target` by a child, on a thread that may wait.
pub async fn hold(program: &Path, target: &Target, task: Task) -> Result<Answer, AttachError> {
    let (program, target) = (program.to_owned(), target.clone());
    waiting(move || Ok(Helper::at_work(&program, &target, task)?.1)).await
}

/// The same with a child that stays.
pub async fn begin(program: &Path, target: &Target, task: Task) -> Result<(Helper, Answer), AttachError> {
    let (program, target) = (program.to_owned(), target.clone());
    waiting(move || Helper::at_work(&program, &target, task)).await
}

async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AttachError> + Send + 'static,
) -> Result<T, AttachError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(AttachError::Helper(format!("could not be waited for: {error}"))),
    }
}

/// A child that has its task.
///
/// # Guarantees
/// Once it is dropped, neither the child nor any `nft` that it had started is at work: rules that took too long are in
/// force by then or never will be, and cannot take the place of those that are given next.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    channel: Channel,
    /// Its other end is held by the child and by what that starts.
    held: Option<ChildStdout>,
}

impl Helper {
    /// A child that has done `task`, and what came of it. Waits.
    pub fn at_work(program: &Path, target: &Target, task: Task) -> Result<(Self, Answer), AttachError> {
        let helper = Self::start(program, target, task)?;
        let answer = helper.answer(DEADLINE)?;
        Ok((helper, answer))
    }

    fn start(program: &Path, target: &Target, task: Task) -> Result<Self, AttachError> {
        let failed = |source| AttachError::Start { program: PathBuf::from(program), source };
        let (near, far) = Channel::pair().map_err(failed)?;
        near.send_within(FEED_DEADLINE).map_err(failed)?;
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(far.into_end())
            .stdout(Stdio::piped())
            // Of its own, with all that it starts.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let held = child.stdout.take();
        let helper = Self { child, channel: near, held };
        let request = Request {
            pid: target.pid(),
            started: target.started(),
            task,
            #[cfg(feature = "failpoints")]
            without: crate::defence::numbers(),
        };
        helper.channel.send(&request, &[target.pidfd()]).map_err(|error| unheard(&error))?;
        Ok(helper)
    }

    /// Has a child that stays give `rules` to the kernel. Waits.
    pub fn give(&self, rules: &str) -> Result<(), AttachError> {
        let mut rest = rules;
        loop {
            let (part, more) = rest.split_at_checked(PART).unwrap_or((rest, ""));
            let feed = Feed { rules: part.to_owned(), last: more.is_empty() };
            self.channel.send(&feed, &[]).map_err(|error| unheard(&error))?;
            if more.is_empty() {
                break;
            }
            rest = more;
        }
        self.answer(FEED_DEADLINE)?;
        Ok(())
    }

    fn answer(&self, limit: Duration) -> Result<Answer, AttachError> {
        let deadline = Instant::now() + limit;
        let mut answer = Answer::default();
        loop {
            self.channel.wait(deadline).map_err(|error| unheard(&error))?;
            match self.channel.receive().map_err(|error| unheard(&error))? {
                Some((Reply::Sockets(roles), descriptors)) if roles.len() == descriptors.len() => {
                    for (role, descriptor) in roles.into_iter().zip(descriptors) {
                        answer.take(role, descriptor);
                    }
                }
                Some((Reply::Sockets(_), _)) => return Err(AttachError::Helper("lost a socket".to_owned())),
                Some((Reply::Standing(part), _)) => answer.standing.extend(part),
                Some((Reply::Done(report), _)) => {
                    answer.report = report;
                    return Ok(answer);
                }
                Some((Reply::Refused(refusal), _)) => return Err(refusal.into()),
                None => return Err(AttachError::Helper("ended without an answer".to_owned())),
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It has ended, or is of no more use. Until it is waited for, nobody else can have its number.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        if let Some(held) = &self.held
            && !wait_for(held.as_fd(), END_DEADLINE).unwrap_or(true)
        {
            tracing::warn!("an nft that was killed is still at work");
        }
    }
}

impl Answer {
    fn take(&mut self, role: Role, descriptor: OwnedFd) {
        let Listeners { tcp, dns_tcp, dns_udp, udp } = &mut self.listeners;
        match role {
            Role::Tcp => tcp.push(descriptor.into()),
            Role::DnsTcp => dns_tcp.push(descriptor.into()),
            Role::DnsUdp => dns_udp.push(descriptor.into()),
            Role::Udp => udp.push(descriptor.into()),
            Role::Gate => self.gate = Some(Gate(UnixStream::from(descriptor))),
        }
    }
}

fn unheard(error: &io::Error) -> AttachError {
    AttachError::Helper(match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "did not answer in time".to_owned(),
        _ => format!("cannot be talked with: {error}"),
    })
}
