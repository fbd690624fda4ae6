//! `sbx completion`: the script a shell loads, and the answers it asks for afterwards.

use std::ffi::OsStr;

use clap::ValueEnum;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use super::Run;
use crate::caller::{Directories, Person, schema_caller};
use crate::exit::Exit;
use crate::failure::Failure;

/// The variable by which a shell's script asks for candidates.
pub const VARIABLE: &str = "SBX_COMPLETE";

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(sbx completion bash)                            in ~/.bashrc
  source <(sbx completion zsh)                             in ~/.zshrc
  sbx completion fish > ~/.config/fish/completions/sbx.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// Prints the script.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Elvish => "elvish",
        Shell::Fish => "fish",
        Shell::Powershell => "powershell",
        Shell::Zsh => "zsh",
    };
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let shell = shells
        .completer(name)
        .ok_or_else(|| Failure::failed("sbx::completion", format!("no completion is known for {name}")))?;
    shell
        .write_registration(VARIABLE, "sbx", "sbx", "sbx", &mut script)
        .map_err(|error| Failure::io("the completion script", &error))?;
    run.screen.result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Completes names of sandboxes from the configuration in the current directory.
pub fn sandboxes() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(prefix) = current.to_str() else { return Vec::new() };
        // Whatever is wrong with the file is not for a completion to say.
        names().into_iter().filter(|name| name.starts_with(prefix)).map(CompletionCandidate::new).collect()
    })
}

fn names() -> Vec<String> {
    let files: Vec<std::path::PathBuf> = files_of_line(std::env::args());
    let Ok(sources) = crate::input::read(&files) else { return Vec::new() };
    let person = Person::find();
    let Ok(directories) = Directories::find(&person, None) else { return Vec::new() };
    crate::configuration::names(&sources, &schema_caller(&person, &directories))
}

/// The `-f` options of the line being completed.
fn files_of_line(words: impl Iterator<Item = String>) -> Vec<std::path::PathBuf> {
    let mut words = words.skip_while(|word| word != "--").skip(1);
    let mut files: Vec<std::path::PathBuf> = Vec::new();
    while let Some(word) = words.next() {
        if word == "-f" || word == "--file" {
            files.extend(words.next().map(Into::into));
        } else if let Some(file) = word.strip_prefix("--file=") {
            files.push(file.into());
        }
    }
    // Standard input belongs to the shell now.
    files.retain(|file| !crate::input::is_stdin(file) && file.is_file());
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_its_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let [one, two] = ["one.yaml", "two.yaml"].map(|name| directory.path().join(name));
        for file in [&one, &two] {
            std::fs::write(file, "").expect("written");
        }
        let of = |words: &[&str]| files_of_line(words.iter().map(|word| String::from(*word)));
        let (named, joined) = (one.display().to_string(), format!("--file={}", two.display()));
        assert_eq!(of(&["sbx", "--", "sbx", "-f", &named, &joined, "exec", "-f", "-"]), [one.clone(), two]);
        assert_eq!(of(&["sbx", "--", "sbx", "exec", "--file", &named]), [one]);
        // Neither what is not there nor what is no file.
        assert!(of(&["sbx", "--", "sbx", "-f", "/nowhere", "--file=/dev/null"]).is_empty());
        assert!(of(&["sbx", "-f", &named]).is_empty(), "the shell's own words");
    }
}
