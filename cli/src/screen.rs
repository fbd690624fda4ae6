//! Where output goes and how it may look: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};

use owo_colors::Style;

use crate::args::{Color, Global};
use crate::failure::Failure;

/// How text for one stream may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Escape sequences for colour are welcome.
    pub color: bool,
    /// Characters beyond ASCII are drawn properly.
    pub unicode: bool,
    /// Columns.
    pub width: usize,
}

impl Look {
    /// `text` in `style`, or as it is where colour is not welcome.
    pub fn paint(self, style: Style, text: &str) -> String {
        if self.color && !text.is_empty() { style.style(text).to_string() } else { text.to_owned() }
    }
}

/// The two output streams of a run.
#[derive(Debug, Clone)]
pub struct Screen {
    /// Standard output.
    pub out: Look,
    /// Standard error.
    pub err: Look,
    /// Whether results are JSON.
    pub json: bool,
    /// Whether only results and errors are wanted.
    pub quiet: bool,
    /// How much is told beyond the usual.
    pub verbose: u8,
    /// Whether progress may be drawn in place.
    pub live: bool,
}

const DEFAULT_WIDTH: usize = 80;
/// Narrower than this nothing can be laid out; longer lines are better than one word a line.
const MIN_WIDTH: usize = 20;

impl Screen {
    /// Reads terminal and environment.
    pub fn new(global: &Global) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        Self {
            out: Look {
                color: wants_color(global.color, &out),
                unicode: out.is_terminal() && speaks_unicode(),
                width: width(&out),
            },
            err: Look {
                color: wants_color(global.color, &err),
                unicode: err.is_terminal() && speaks_unicode(),
                width: width(&err),
            },
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            live: !global.no_progress && !global.quiet && !global.json && err.is_terminal() && !is_dumb(),
        }
    }

    /// Writes a result. A reader that has gone changes nothing: what is to be done is done, and the exit code tells
    /// how it went.
    pub fn result(&self, text: &str) -> Result<(), Failure> {
        match self.stream(text) {
            Err(failure) if failure.is_closed() => Ok(()),
            written => written,
        }
    }

    /// Writes a piece of an output that goes on until its reader has gone, which ends the run.
    #[expect(clippy::unused_self, reason = "whoever writes has been given a screen")]
    pub fn stream(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = out
            .write_all(text.as_bytes())
            .and_then(|()| if text.ends_with('\n') || text.is_empty() { Ok(()) } else { out.write_all(b"\n") });
        written.and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Tells something that is not the result, unless `-q`.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Tells something even with `-q`.
    #[expect(clippy::unused_self, reason = "whoever writes has been given a screen")]
    pub fn complain(&self, text: &str) {
        // Nobody is left to be told that standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{}", text.trim_end_matches('\n'));
    }

    /// Tells something that matters even with `-q` when `important`.
    pub fn complain_if(&self, important: bool, text: &str) {
        if important { self.complain(text) } else { self.say(text) }
    }

    /// A warning line with its help.
    pub fn warn(&self, message: &str, help: Option<&str>) {
        self.say(&labelled("warning", Style::new().yellow().bold(), message, help, self.err));
    }

    /// Reports the end of a run that failed.
    pub fn fail(&self, failure: &Failure) {
        if failure.silent {
            return;
        }
        if self.json {
            // The exit code tells it too when standard output is gone.
            let _ = self.result(&failure.to_json());
            return;
        }
        if let Some(report) = &failure.report {
            self.complain(report);
        }
        let message = match &failure.origin {
            Some(origin) => format!("{origin}: {}", failure.message),
            None => failure.message.clone(),
        };
        let mut text = labelled("error", Style::new().red().bold(), &message, None, self.err);
        for detail in &failure.details {
            text.push('\n');
            text.push_str(&crate::render::text::wrap(detail, "  ", "    ", self.err.width).join("\n"));
        }
        if let Some(help) = &failure.help {
            text.push('\n');
            text.push_str(&labelled("help", Style::new().cyan().bold(), help, None, self.err));
        }
        self.complain(&text);
    }
}

fn labelled(label: &str, style: Style, message: &str, help: Option<&str>, look: Look) -> String {
    let text = crate::render::text::wrap(&format!("{label}: {message}"), "", "  ", look.width).join("\n");
    let mut text = match text.strip_prefix(label) {
        Some(rest) => format!("{}{rest}", look.paint(style, label)),
        None => text,
    };
    if let Some(help) = help {
        text.push('\n');
        text.push_str(&labelled("help", Style::new().cyan().bold(), help, None, look));
    }
    text
}

fn wants_color(choice: Color, stream: &impl anstream::stream::RawStream) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        // NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM and the terminal itself.
        Color::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
    }
}

fn speaks_unicode() -> bool {
    if is_dumb() || std::env::var_os("TERM").is_some_and(|term| term == "linux") {
        return false;
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn width(stream: &impl rustix::fd::AsFd) -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok()).filter(|w| *w > 0);
    let drawn = rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|w| *w > 0);
    // A terminal knows better than a variable that was exported before the window was resized.
    drawn.or(asked).unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH)
}
