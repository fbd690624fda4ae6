//! Asking a person, only where there is one.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use owo_colors::Style;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;

/// Asks for `yes`. Without a terminal the answer is a refusal that says which flag to pass.
pub fn ask(screen: &Screen, question: &str, flag: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if screen.json || !stdin.is_terminal() {
        return Err(Failure::refused("sbx::approval-needed", "nobody is here to approve the plan")
            .with_help(format!("look at the plan and pass {flag}")));
    }
    let prompt = screen.err.paint(Style::new().bold(), &format!("{question} Only 'yes' is taken as consent: "));
    let mut err = std::io::stderr().lock();
    // A prompt nobody can see is answered by nobody: the read below then ends the run.
    let _ = write!(err, "{prompt}").and_then(|()| err.flush());
    let mut answer = String::new();
    match stdin.lock().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        Ok(0) => Err(Failure::new(Exit::Interrupted, "sbx::interrupted", "no answer; nothing was changed")),
        Ok(_) => Err(Failure::refused("sbx::not-approved", "not approved; nothing was changed")
            .with_help(format!("type the whole word, or pass {flag}"))),
        Err(error) => Err(Failure::io("standard input", &error)),
    }
}
