//! `sbx init`: a file to start from.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Run;
use crate::caller::Person;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::DEFAULT_FILE;
use crate::render::json;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx init\n  sbx init --project acme ~/src/acme")]
pub struct Args {
    /// Where to write sandboxes.yaml; made when missing
    #[arg(value_name = "DIR", default_value = ".", value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,
    /// Name of the project [default: the directory's name]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: &'static str,
    project: &'a str,
    file: &'a Path,
    schema: &'a Path,
}

const TEMPLATE: &str = include_str!("init/sandboxes.yaml");
const SCHEMA: &str = "sandboxes.schema.json";

/// Writes the file, and the schema its modelines point to.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    Person::find().act(&args.directory, || write(args, run))
}

fn write(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory).map_err(|error| Failure::io(directory.display(), &error))?;
    let project = match &args.project {
        Some(name) => schema::Name::new(name.as_str()).map_err(|error| {
            Failure::new(Exit::Usage, "sbx::name", format!("--project {name}: {error}"))
                .with_help("use letters, digits and hyphens, for instance --project my-app")
        })?,
        None => project_name(directory),
    };
    let file = directory.join(DEFAULT_FILE);
    write_new(&file, &TEMPLATE.replace("my-project", project.as_str()))?;
    // The schema is generated: an existing one may be older, and nobody edits it by hand. A link is not followed.
    let schema = directory.join(SCHEMA);
    if schema.symlink_metadata().is_err() {
        write_new(&schema, &json::document(&crate::configuration::json_schema()))?;
    }
    if run.screen.json {
        let document =
            Document { format_version: json::FORMAT_VERSION, project: project.as_str(), file: &file, schema: &schema };
        run.screen.result(&json::document(&document))?;
        return Ok(Exit::Done);
    }
    run.screen.say(&format!(
        "Wrote {} and {} beside it for your editor.\nNext: `sbx plan` shows what it would create.",
        file.display(),
        SCHEMA
    ));
    Ok(Exit::Done)
}

fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut open| open.write_all(text.as_bytes()));
    written.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Failure::refused("sbx::exists", format!("{} is there already; it stays as it is", file.display()))
                .with_help("edit it, or choose another directory: sbx init DIR")
        } else {
            Failure::io(file.display(), &error)
        }
    })
}

/// The directory's name bent into the rule for names.
fn project_name(directory: &Path) -> schema::Name {
    let absolute = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
    let text = absolute.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let name: String =
        words.join("-").trim_start_matches(|c: char| !c.is_ascii_alphabetic()).chars().take(63).collect();
    schema::Name::new(name.trim_end_matches('-')).unwrap_or_else(|_| fallback())
}

#[expect(clippy::expect_used, reason = "a constant that obeys the rule")]
fn fallback() -> schema::Name {
    schema::Name::new("my-project").expect("obeys the rule for names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_become_names() {
        for (directory, name) in [("/x/My App_2", "my-app-2"), ("/x/__", "my-project"), ("/x/9-lives", "lives")] {
            assert_eq!(project_name(Path::new(directory)).as_str(), name);
        }
    }
}
