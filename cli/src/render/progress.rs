//! What happens while it happens: lines that redraw on a terminal, plain lines elsewhere, events as JSON.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::Style;
use reconciler::outcome::{Ending, Event, Result as Ended};
use reconciler::plan::Action;
use reconciler::resource::ResourceId;

use super::plan::{dim, symbol};
use super::text::{safe, wrap};
use crate::screen::Screen;

/// Shows events of one run. Shared between the tasks that carry it out.
pub struct Progress {
    screen: Screen,
    live: Option<MultiProgress>,
    running: Mutex<HashMap<ResourceId, Running>>,
}

struct Running {
    since: Instant,
    bar: Option<ProgressBar>,
    /// Told last, so that a pull that repeats itself does not fill a log.
    said: String,
}

impl Progress {
    /// On `screen`.
    pub fn new(screen: &Screen) -> Self {
        let live = screen.live.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { screen: screen.clone(), live, running: Mutex::default() }
    }

    /// Shows `event`.
    pub fn show(&self, event: &Event) {
        if self.screen.json {
            // A reader that has gone must not stop what is being carried out.
            let _ = self.screen.result(&super::json::line(event));
            return;
        }
        match event {
            Event::Started { resource, action } => self.started(resource, *action),
            Event::Step { resource, message } => self.step(resource, message),
            Event::Retry { resource, message, attempt } => {
                self.step(resource, &format!("{message}; attempt {attempt}"));
            }
            Event::Ended(result) => self.ended(result),
        }
    }

    /// Says something between the moving lines.
    pub fn say(&self, text: &str) {
        match &self.live {
            // Drawing fails only when the terminal is gone.
            Some(live) => drop(live.println(text)),
            None => self.screen.say(text),
        }
    }

    fn started(&self, resource: &ResourceId, action: Action) {
        let (symbol, style) = symbol(action);
        let title =
            format!("{} {}", self.screen.err.paint(style, &format!("{symbol:>3}")), safe(&resource.to_string()));
        let bar = self.live.as_ref().map(|live| {
            let bar = live.add(ProgressBar::new_spinner());
            bar.set_style(style_of(self.screen.err.unicode));
            bar.set_prefix(title.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let running = Running { since: Instant::now(), bar, said: String::new() };
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(resource.clone(), running);
    }

    fn step(&self, resource: &ResourceId, message: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = running.get_mut(resource) else { return };
        let message = safe(message.trim());
        if entry.said == message {
            return;
        }
        if let Some(bar) = &entry.bar {
            bar.set_message(message.clone().into_owned());
        } else if self.screen.verbose > 0 {
            self.screen
                .say(&wrap(&format!("{resource}: {message}"), "    ", "      ", self.screen.err.width).join("\n"));
        }
        entry.said = message.into_owned();
    }

    fn ended(&self, result: &Ended) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&result.resource);
        let took = running.as_ref().map(|running| running.since.elapsed());
        if let Some(bar) = running.and_then(|running| running.bar) {
            bar.finish_and_clear();
        }
        let look = self.screen.err;
        let (symbol, style) = symbol(result.action);
        let (word, word_style) = match &result.ending {
            Ending::Done => (done(result.action), Style::new().green()),
            Ending::Failed { .. } => ("failed", Style::new().red().bold()),
            // The outcome lists what was not tried; there is nothing to tell while others still run.
            Ending::NotTried { .. } => return,
        };
        let took = took.map(|took| format!(" ({})", duration(took))).unwrap_or_default();
        self.say(&format!(
            "{} {} {}{}",
            look.paint(style, &format!("{symbol:>3}")),
            safe(&result.resource.to_string()),
            look.paint(word_style, word),
            look.paint(dim(), &took)
        ));
    }
}

fn style_of(unicode: bool) -> ProgressStyle {
    let ticks = if unicode { "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ " } else { "|/-\\ " };
    ProgressStyle::with_template("{prefix} {spinner} {elapsed} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_chars(ticks)
}

/// What has happened, in a word.
pub fn done(action: Action) -> &'static str {
    match action {
        Action::Create => "created",
        Action::Update => "updated",
        Action::Replace => "replaced",
        Action::Delete => "deleted",
        Action::Noop => "unchanged",
        Action::Forbidden => "not touched",
    }
}

/// `0.3s`, `2m 5s`.
pub fn duration(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        return String::from("<0.1s");
    }
    if time < Duration::from_mins(1) {
        return format!("{:.1}s", time.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}
