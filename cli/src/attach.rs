//! A command in a sandbox joined to this terminal: bytes both ways, window size, signals, exit code.

use std::io::{IsTerminal as _, Write as _};

use reconciler::podman::{ExecSpec, Output, Podman};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::{Asked, Interrupt};
use crate::terminal::{self, Raw};

/// How a shell's command ends that writes to a pipe nobody reads: SIGPIPE.
const UNHEARD: Exit = Exit::Of(141);

/// Whether a command gets a terminal: when both ends here are one.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Runs `spec` in `container` to its end, and gives its exit code on.
pub async fn attach(podman: &Podman, container: &str, mut spec: ExecSpec) -> Result<Exit, Failure> {
    spec.size = terminal::size();
    let tty = spec.tty;
    let mut session = podman.exec(container, &spec).await.map_err(|error| Failure::backend("", error))?;
    // Only now: what failed before is told on a terminal in its usual mode.
    let raw = if tty { Raw::on() } else { None };
    if let Some(stdin) = session.take_stdin() {
        if spec.stdin { feed(stdin) } else { drop(stdin) }
    }
    let resizer = session.resizer();
    if tty {
        let mut resized =
            signal(SignalKind::window_change()).map_err(|error| Failure::io("cannot listen for signals", &error))?;
        tokio::spawn(async move {
            loop {
                // A size that could not be told is told again with the next change.
                if let Some((rows, columns)) = terminal::size() {
                    let _ = resizer.resize(rows, columns).await;
                }
                if resized.recv().await.is_none() {
                    return;
                }
            }
        });
    }
    // With a terminal, Ctrl-C is a byte for the command. Without one, or from elsewhere, a signal ends this end.
    let interrupt = Interrupt::listen(|_| {}).map_err(|error| Failure::io("cannot listen for signals", &error))?;
    loop {
        let piece = tokio::select! {
            piece = session.next() => piece.map_err(|error| Failure::backend("", error))?,
            () = interrupt.stopped() => return Ok(cut_short(&interrupt)),
        };
        match piece {
            Some(output) => {
                if let Err(error) = write(&output) {
                    let closed = error.kind() == std::io::ErrorKind::BrokenPipe;
                    return if closed { Ok(UNHEARD) } else { Err(Failure::output(&error)) };
                }
            }
            None => break,
        }
    }
    drop(raw);
    let code = tokio::select! {
        code = session.exit_code() => code.map_err(|error| Failure::backend("", error))?,
        () = interrupt.stopped() => return Ok(cut_short(&interrupt)),
    };
    Ok(Exit::Of(u8::try_from(code).unwrap_or(255)))
}

/// How a shell tells by which signal a command was ended.
fn cut_short(interrupt: &Interrupt) -> Exit {
    match interrupt.asked() {
        Some(Asked::Terminate) => Exit::Of(143),
        Some(Asked::HangUp) => Exit::Of(129),
        Some(Asked::Interrupt) | None => Exit::Interrupted,
    }
}

/// Writes to the stream it came from.
pub fn write(output: &Output) -> std::io::Result<()> {
    match output {
        Output::Stdout(bytes) => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Output::Stderr(bytes) => std::io::stderr().lock().write_all(bytes),
    }
}

/// Hands standard input on until it ends. The reading thread may outlive the command; the end of the run ends it.
fn feed(mut to: impl tokio::io::AsyncWrite + Send + Unpin + 'static) {
    tokio::spawn(async move {
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match stdin.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
        // The command sees the end of its input; an error means it has ended already.
        let _ = to.shutdown().await;
    });
}
