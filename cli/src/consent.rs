//! Asking a person, only where there is one.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use owo_colors::Style;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;

/// Ends the line of a question that nobody has ended by an answer.
struct Unanswered;

impl Drop for Unanswered {
    fn drop(&mut self) {
        // Nobody is left to be told that standard error is gone.
        let _ = writeln!(std::io::stderr());
    }
}

/// Asks for `yes`. Without a terminal the answer is a refusal that says which flag to pass.
pub async fn ask(screen: &Screen, question: &str, flag: &str) -> Result<(), Failure> {
    if screen.json || !std::io::stdin().is_terminal() {
        return Err(Failure::refused("sbx::approval-needed", "nobody is here to approve the plan")
            .with_help(format!("look at the plan and pass {flag}")));
    }
    let prompt = screen.err.paint(Style::new().bold(), &format!("{question} Only 'yes' is taken as consent: "));
    {
        let mut err = std::io::stderr().lock();
        // A prompt nobody can see is answered by nobody: the read below then ends the run.
        let _ = write!(err, "{prompt}").and_then(|()| err.flush());
    }
    let unanswered = Unanswered;
    // On a thread of its own, which may go on reading when a signal ends the run.
    let read = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map(|read| (read, answer))
    });
    match read.await.map_err(|error| Failure::failed("sbx::bug", error.to_string()))? {
        Ok((0, _)) => Err(Failure::new(Exit::Interrupted, "sbx::interrupted", "no answer; nothing was changed")),
        Ok((_, answer)) => {
            std::mem::forget(unanswered);
            if answer.trim() == "yes" {
                return Ok(());
            }
            Err(Failure::refused("sbx::not-approved", "not approved; nothing was changed")
                .with_help(format!("type the whole word, or pass {flag}")))
        }
        Err(error) => Err(Failure::io("standard input", &error)),
    }
}
