//! Problems of the configuration, for people.

use miette::{GraphicalReportHandler, GraphicalTheme, ThemeCharacters, ThemeStyles};
use schema::{Diagnostic, Source, report};

use crate::screen::Look;

/// More than this many problems are counted, not shown: the first ones usually cause the rest.
const MOST: usize = 50;

/// The graphical report of all problems, file by file.
pub fn human(sources: &[Source], diagnostics: &[Diagnostic], look: Look) -> String {
    let theme = GraphicalTheme {
        characters: if look.unicode { ThemeCharacters::unicode() } else { ThemeCharacters::ascii() },
        styles: if look.color { ThemeStyles::ansi() } else { ThemeStyles::none() },
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(look.width).with_links(false);
    let mut text = String::new();
    let shown = diagnostics.len().min(MOST);
    for report in report::reports(sources, &diagnostics[..shown]) {
        for problem in &report.problems {
            if !text.is_empty() {
                text.push('\n');
            }
            // Writing to a String cannot fail; a report that miette cannot draw is still named by its message.
            if handler.render_report(&mut text, problem).is_err() {
                text.push_str(&problem.to_string());
                text.push('\n');
            }
        }
    }
    if diagnostics.len() > shown {
        text.push_str(&format!("... and {} more; --format json shows all\n", diagnostics.len() - shown));
    }
    text
}
