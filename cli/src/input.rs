//! Reading the configuration files named on the command line.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use schema::Source;

use crate::exit::Exit;
use crate::failure::{Failure, io_text};

/// The file read when none is named.
pub const DEFAULT_FILE: &str = "sandboxes.yaml";

/// What the language reads of one text; reading more would only waste memory.
const MAX_BYTES: u64 = schema::document::MAX_TEXT as u64;

/// Reads `files`, or [`DEFAULT_FILE`].
pub fn read(files: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::io("the current directory", &error).with_help("change to a directory that exists"))?;
    let default = [PathBuf::from(DEFAULT_FILE)];
    let files = if files.is_empty() { &default } else { files };
    if files.iter().filter(|file| is_stdin(file)).count() > 1 {
        return Err(
            Failure::new(Exit::Usage, "sbx::usage", "standard input can be read only once").with_help("pass -f - once")
        );
    }
    files.iter().map(|file| if is_stdin(file) { stdin(&here) } else { one(file, &here) }).collect()
}

/// Whether `file` means standard input.
pub fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Files of a run in absolute form, as a saved plan names them.
pub fn absolute(files: &[PathBuf]) -> Vec<PathBuf> {
    let default = [PathBuf::from(DEFAULT_FILE)];
    let files = if files.is_empty() { default.as_slice() } else { files };
    let absolute = |file: &PathBuf| std::path::absolute(file).unwrap_or_else(|_| file.clone());
    files.iter().map(|file| if is_stdin(file) { file.clone() } else { absolute(file) }).collect()
}

/// The same from here, so that places in them read as they did in the plan.
pub fn relative(files: &[PathBuf]) -> Vec<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    files.iter().map(|file| file.strip_prefix(&here).unwrap_or(file).to_path_buf()).collect()
}

fn stdin(here: &Path) -> Result<Source, Failure> {
    let text = text(std::io::stdin().lock(), "<stdin>")?;
    Ok(Source { name: String::from("<stdin>"), directory: here.to_path_buf(), text })
}

fn one(file: &Path, here: &Path) -> Result<Source, Failure> {
    let name = file.display().to_string();
    let opened = std::fs::File::open(file).and_then(|open| open.metadata().map(|meta| (open, meta)));
    let (open, meta) = opened.map_err(|error| cannot_read(&name, &error))?;
    if meta.is_dir() {
        return Err(Failure::new(Exit::Invalid, "sbx::unreadable", format!("{name} is a directory"))
            .with_help(format!("name a file: -f {}", file.join(DEFAULT_FILE).display())));
    }
    // What is no regular file tells no length, and is read up to the bound.
    if meta.is_file() && meta.len() > MAX_BYTES {
        return Err(too_large(&name));
    }
    let directory = here.join(file).parent().map_or_else(|| here.to_path_buf(), Path::to_path_buf);
    Ok(Source { text: text(open, &name)?, name, directory })
}

fn cannot_read(name: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Exit::Invalid, "sbx::unreadable", format!("cannot read {name}: {}", io_text(error)));
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            failure.with_help("write one with `sbx init`, or name another with -f FILE (-f - reads standard input)")
        }
        std::io::ErrorKind::PermissionDenied => {
            failure.with_help("make it readable for you, or name another with -f FILE")
        }
        _ => failure.with_help("name another with -f FILE"),
    }
}

fn too_large(name: &str) -> Failure {
    let message = format!("{name} is larger than {} MiB", MAX_BYTES >> 20);
    Failure::new(Exit::Invalid, "sbx::too-large", message)
        .with_help("split it, or check that this is the file you mean")
}

fn text(reader: impl std::io::Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(name, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large(name));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        Failure::new(Exit::Invalid, "sbx::unreadable", format!("{name}:{line}: this is not UTF-8 text"))
            .with_help("save the file as UTF-8")
    })
}
