//! From files to a checked configuration, and the reports about what is wrong with them.

use schema::document::{Entry, Node, NodeKind};
use schema::report;
use schema::{Config, Diagnostic, LocatedDiagnostic, Severity, Source};

use crate::caller::{Directories, Person, schema_caller};
use crate::commands::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::diagnostics;
use crate::render::text::count;

/// The caller, and where things are kept.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Who runs `sbx`.
    pub person: Person,
    /// Directories of `sbx`.
    pub directories: Directories,
}

impl Surroundings {
    /// Looks around.
    pub fn find(run: &Run<'_>) -> Result<Self, Failure> {
        let person = Person::find();
        let directories = Directories::find(&person, run.global.state_dir.as_deref())?;
        Ok(Self { person, directories })
    }

    /// What the language needs to know.
    pub fn caller(&self) -> schema::Caller {
        schema_caller(&self.person, &self.directories)
    }
}

/// What came of reading the files.
#[derive(Debug)]
pub struct Checked {
    /// The texts.
    pub sources: Vec<Source>,
    /// The configuration, when it can be used.
    pub config: Option<Config>,
    /// When it cannot: what of it can be judged.
    partial: Option<Config>,
    /// Everything found, sorted for reading.
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    /// The diagnostics with places counted out.
    pub fn located(&self) -> Vec<LocatedDiagnostic> {
        report::locate(&self.sources, &self.diagnostics)
    }

    /// Files as named by the user.
    pub fn names(&self) -> String {
        self.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Reads and checks the files of the command line.
pub fn check(run: &Run<'_>, surroundings: &Surroundings) -> Result<Checked, Failure> {
    let sources = crate::input::read(&run.global.file)?;
    let mut loaded = schema::load(&sources, &surroundings.caller());
    report::sort(&mut loaded.diagnostics);
    let schema::Loaded { config, partial, diagnostics } = loaded;
    Ok(Checked { sources, config, partial, diagnostics })
}

impl Checked {
    /// Looks at the policies too: what is unwise in rules, and which assertions do not hold. Where something else is wrong,
    /// those that it has nothing to do with are judged all the same.
    pub fn judge_policies(&mut self) {
        let Some(config) = self.config.as_ref().or(self.partial.as_ref()) else { return };
        self.diagnostics.extend(egress::lint::diagnostics(config, &self.sources));
        self.diagnostics.extend(egress::assertion::diagnostics(config, &self.sources, today()));
        report::sort(&mut self.diagnostics);
    }
}

/// Today (UTC), by which rules expire.
pub fn today() -> jiff::civil::Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// As [`load`], for what is about to be put in place: policies are looked at as well.
pub fn load_judged(run: &Run<'_>, surroundings: &Surroundings) -> Result<Config, Failure> {
    let mut checked = check(run, surroundings)?;
    checked.judge_policies();
    take(run, checked)
}

/// Reads and checks; what is wrong ends the run, what is unwise is told.
pub fn load(run: &Run<'_>, surroundings: &Surroundings) -> Result<Config, Failure> {
    take(run, check(run, surroundings)?)
}

fn take(run: &Run<'_>, mut checked: Checked) -> Result<Config, Failure> {
    let errors = checked.diagnostics.iter().filter(|problem| problem.severity == Severity::Error).count();
    match checked.config.take() {
        Some(config) if errors == 0 => {
            if !checked.diagnostics.is_empty() && !run.screen.quiet && !run.screen.json {
                run.screen.say(&diagnostics::human(&checked.sources, &checked.diagnostics, run.screen.err));
            }
            Ok(config)
        }
        _ => Err(invalid(run, &checked, errors)),
    }
}

/// As [`load`], for commands whose output belongs to somebody else: what is unwise is not told.
pub fn load_quietly(run: &Run<'_>, surroundings: &Surroundings) -> Result<Config, Failure> {
    let mut screen = run.screen.clone();
    screen.quiet = true;
    load(&Run { global: run.global.clone(), screen: &screen }, surroundings)
}

/// As [`load_quietly`], with the texts, for commands that change them.
pub fn load_to_edit(run: &Run<'_>, surroundings: &Surroundings) -> Result<(Vec<Source>, Config), Failure> {
    let checked = check(run, surroundings)?;
    let sources = checked.sources.clone();
    let mut screen = run.screen.clone();
    screen.quiet = true;
    let config = take(&Run { global: run.global.clone(), screen: &screen }, checked)?;
    Ok((sources, config))
}

fn invalid(run: &Run<'_>, checked: &Checked, errors: usize) -> Failure {
    let message = format!("{} in {}; nothing was changed", count(errors.max(1), "error"), checked.names());
    let mut failure = Failure::new(Exit::Invalid, "sbx::invalid-configuration", message);
    if run.screen.json {
        failure.diagnostics = checked.located();
    } else {
        failure.report = Some(diagnostics::human(&checked.sources, &checked.diagnostics, run.screen.err));
    }
    failure
}

/// The JSON Schema.
pub fn json_schema() -> serde_json::Value {
    schema::json_schema()
}

/// Keys of the sandboxes as they are written: whatever can be made of a file that may be half written.
pub fn keys(sources: &[Source]) -> Vec<String> {
    written(sources, |entry| vec![entry.key.to_string()])
}

/// Names of the sandboxes, for completion: those that commands take, or what can be made of a file that is half written.
pub fn names(sources: &[Source], caller: &schema::Caller) -> Vec<String> {
    if let Some(config) = schema::load(sources, caller).config {
        return config.sandboxes.keys().map(ToString::to_string).collect();
    }
    written(sources, |entry| match entry.value.get("replicas").map(|replicas| &replicas.kind) {
        Some(&NodeKind::Integer(copies @ 2..=MOST_REPLICAS)) => {
            (1..=copies).map(|number| format!("{}-{number}", entry.key)).collect()
        }
        _ => vec![entry.key.to_string()],
    })
}

/// More of one sandbox are not allowed.
const MOST_REPLICAS: i64 = 1000;

/// What each entry of `sandboxes` is called, sorted, each once.
fn written(sources: &[Source], called: impl Fn(&Entry) -> Vec<String>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut names = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let document = schema::document::parse(index, &source.text, &mut problems);
        let sandboxes = document.as_ref().and_then(|document| document.get("sandboxes"));
        names.extend(sandboxes.map(Node::entries).unwrap_or_default().iter().flat_map(&called));
    }
    names.sort();
    names.dedup();
    names
}
