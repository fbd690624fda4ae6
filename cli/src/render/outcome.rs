//! What came of a plan, for people: what failed and why, what was not tried, and the counts.

use owo_colors::Style;
use reconciler::backend::ErrorKind;
use reconciler::outcome::{Ending, Outcome};

use super::plan::{red, verb, yellow};
use super::text::{count, wrap};
use crate::exit::Exit;
use crate::failure;
use crate::screen::Look;

/// The report. `did` is the past participle of the command: `Applied`, `Destroyed`.
pub fn outcome(outcome: &Outcome, did: &str, exit: Exit, look: Look) -> String {
    let mut text = String::new();
    let mut push = |first: &str, rest: &str, words: &str, style: Style| {
        for line in wrap(words, first, rest, look.width) {
            let body = line.trim_start_matches(' ');
            text.push_str(&line[..line.len() - body.len()]);
            text.push_str(&look.paint(style, body));
            text.push('\n');
        }
    };
    let (mut done, mut failed, mut waiting) = (0usize, 0usize, 0usize);
    for result in &outcome.results {
        let place = result.origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
        match &result.ending {
            Ending::Done => done += 1,
            Ending::Failed { step, message, help, rolled_back, kind: _ } => {
                failed += 1;
                push("", "  ", &format!("error: {place}{} failed to {step}: {message}", result.resource), red());
                if *rolled_back {
                    push("  ", "  ", "what was there before is there again", Style::new());
                }
                if let Some(help) = help {
                    push("", "  ", &format!("help: {help}"), Style::new().cyan());
                }
            }
            Ending::NotTried { waited_for } => {
                waiting += 1;
                let why = match waited_for {
                    Some(other) => format!("it waits for {other}"),
                    None => String::from("the run was interrupted"),
                };
                push(
                    "",
                    "  ",
                    &format!("not tried: {place}{} {}: {why}", verb(result.action), result.resource),
                    yellow(),
                );
            }
        }
    }
    if outcome.is_done() {
        push("", "  ", &format!("{did}. {} done.", count(done, "change")), Style::new().green().bold());
    } else {
        let end = match exit {
            Exit::Interrupted => "Interrupted",
            Exit::TimedOut => "Out of time",
            _ => "Not finished",
        };
        let words =
            format!("{end}: {done} done, {failed} failed, {waiting} not tried. Run the command again to go on.");
        push("", "  ", &words, Style::new().bold());
    }
    text
}

/// The exit code of an outcome: an interrupt first, then the first failure's own.
pub fn exit(outcome: &Outcome) -> Exit {
    if outcome.interrupted {
        return Exit::Interrupted;
    }
    let kinds = || {
        outcome.results.iter().filter_map(|result| match &result.ending {
            Ending::Failed { kind, .. } => Some(*kind),
            Ending::Done | Ending::NotTried { .. } => None,
        })
    };
    // One unreachable engine makes many failures; the cause is worth more than its echoes.
    for telling in [ErrorKind::Unreachable, ErrorKind::TimedOut, ErrorKind::Stale] {
        if kinds().any(|kind| kind == telling) {
            return failure::kind(telling).0;
        }
    }
    if outcome.is_done() { Exit::Done } else { Exit::Failed }
}

#[cfg(test)]
mod tests {
    use reconciler::outcome::Result as Ended;
    use reconciler::plan::Action;
    use reconciler::resource::ResourceId;

    use super::*;

    fn sample() -> Outcome {
        let result = |name: &str, action, ending| Ended {
            resource: ResourceId::new("container", name),
            action,
            origin: Some(String::from("sandboxes.yaml:12:3")),
            ending,
        };
        Outcome {
            results: vec![
                result("one", Action::Create, Ending::Done),
                result(
                    "two",
                    Action::Replace,
                    Ending::Failed {
                        step: String::from("start container acme_two"),
                        message: String::from("the executable file `nosuch` was not found in $PATH"),
                        help: Some(String::from("correct `command`")),
                        rolled_back: true,
                        kind: ErrorKind::Failed,
                    },
                ),
                result(
                    "three",
                    Action::Update,
                    Ending::NotTried { waited_for: Some(ResourceId::new("network", "net")) },
                ),
            ],
            interrupted: false,
        }
    }

    #[test]
    fn says_what_was_done_what_failed_and_what_was_not_tried() {
        let look = Look { color: false, unicode: false, width: 80 };
        insta::assert_snapshot!(outcome(&sample(), "Applied", Exit::Failed, look));
    }

    #[test]
    fn codes() {
        let mut outcome = sample();
        assert_eq!(exit(&outcome), Exit::Failed);
        if let Ending::Failed { kind, .. } = &mut outcome.results[1].ending {
            *kind = ErrorKind::Unreachable;
        }
        assert_eq!(exit(&outcome), Exit::Unreachable);
        outcome.interrupted = true;
        assert_eq!(exit(&outcome), Exit::Interrupted);
        assert_eq!(exit(&Outcome::default()), Exit::Done);
    }
}
