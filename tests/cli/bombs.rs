//! Files that are meant to exhaust whoever reads them: an error comes soon, and in little memory.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::program::Place;

/// What it may take at most. The program of the tests is not optimised, and has ten times the code.
const MOST_TIME: Duration = Duration::from_secs(1);
const MOST_MEMORY: u64 = 100_000_000;

/// How often the clock is read: a busy machine takes the processor away now and then, but not every time.
const TURNS: usize = 3;

const BEGINNING: &str = "apiVersion: sbx/v1\nproject: acme\n";

/// A run that has ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    said: String,
    took: Duration,
    /// Most memory that was resident at once, in bytes.
    memory: u64,
}

/// Runs a line of words to its end.
#[allow(clippy::zombie_processes, reason = "`ended` waits for it")]
fn run(place: &Place, line: &str, input: impl Into<Stdio>) -> Ended {
    let mut command = place.command(line.split_whitespace());
    let output = place.work().join("output");
    let file = File::create(&output).unwrap();
    command.stdin(input).stdout(file.try_clone().unwrap()).stderr(file);
    let begun = Instant::now();
    let child = command.spawn().unwrap();
    // What is not in it keeps the pipe of the input open.
    drop(command);
    let (status, memory) = ended(child.id());
    Ended {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        said: std::fs::read_to_string(&output).unwrap(),
        took: begun.elapsed(),
        memory,
    }
}

/// Waits for a child as `std` does, which does not tell what it used.
fn ended(id: u32) -> (i32, u64) {
    let id = i32::try_from(id).unwrap();
    let mut status = 0;
    loop {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both places are valid for writes, and zeros are a valid `rusage`. The child is reaped here and nowhere else.
        #[allow(unsafe_code, reason = "only the C interface tells what one child used")]
        let (reaped, usage) = unsafe { (libc::wait4(id, &raw mut status, 0, usage.as_mut_ptr()), usage.assume_init()) };
        if reaped == id {
            return (status, u64::try_from(usage.ru_maxrss).unwrap() * 1024);
        }
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
    }
}

/// Demands an error with `code` in every format, soon and in little memory.
fn refused<I: Into<Stdio>>(place: &Place, what: &str, file: &str, code: &str, input: impl Fn() -> I) {
    for format in ["json", "human"] {
        let line = format!("-f {file} validate --format {format}");
        let runs: Vec<Ended> = (0..TURNS).map(|_| run(place, &line, input())).collect();
        for ended in &runs {
            assert_eq!(ended.code, Some(65), "{what}: {}", ended.said);
            if format == "json" {
                let document: serde_json::Value = serde_json::from_str(&ended.said).unwrap();
                assert_eq!(document["diagnostics"][0]["code"], code, "{what}: {}", ended.said);
            }
            assert!(ended.said.len() < 20_000, "{what}: a report that nobody reads");
            assert!(ended.memory > 1_000_000, "{what}: {} bytes: nothing was measured", ended.memory);
            assert!(ended.memory < MOST_MEMORY, "{what}: {} bytes of memory", ended.memory);
        }
        let best = runs.iter().map(|ended| ended.took).min().unwrap();
        assert!(best < MOST_TIME, "{what} as {format}: {best:?}");
    }
}

#[test]
fn a_file_of_100_mb() {
    let place = Place::new();
    let path = place.work().join("large.yaml");
    File::create(&path).unwrap().set_len(100_000_000).unwrap();
    refused(&place, "by path", "large.yaml", "sbx::too-large", Stdio::null);
    refused(&place, "as standard input", "-", "sbx::too-large", || File::open(&path).unwrap());
    let writers = RefCell::new(Vec::new());
    refused(&place, "through a pipe", "-", "sbx::too-large", || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        // It ends when nobody reads any more.
        writers.borrow_mut().push(std::thread::spawn(move || {
            let piece = "key: value\n".repeat(10_000);
            let pieces = 100_000_000 / piece.len();
            (0..pieces).take_while(|_| writer.write_all(piece.as_bytes()).is_ok()).count() * piece.len()
        }));
        reader
    });
    for writer in writers.into_inner() {
        let written = writer.join().unwrap();
        assert!(written < 20_000_000, "{written} bytes were taken: no more is read than decides it");
    }
}

#[test]
fn one_limit_however_the_text_comes() {
    let place = Place::new();
    let most = schema::document::MAX_TEXT;
    let path = place.work().join("limit.yaml");
    // A comment up to the last byte that is read.
    let text = |length: usize| {
        let text = format!("{BEGINNING}sandboxes: {{ api: {{ image: host }} }}\n#");
        let rest = length - text.len();
        text + &"x".repeat(rest)
    };
    std::fs::write(&path, text(most)).unwrap();
    for (file, input) in [("limit.yaml", None), ("-", Some(&path))] {
        let input = input.map_or_else(Stdio::null, |path| File::open(path).unwrap().into());
        let ended = run(&place, &format!("-f {file} validate"), input);
        assert_eq!(ended.code, Some(0), "{}", ended.said);
    }
    std::fs::write(&path, text(most + 1)).unwrap();
    for (file, name, input) in [("limit.yaml", "limit.yaml", None), ("-", "<stdin>", Some(&path))] {
        let input = input.map_or_else(Stdio::null, |path| File::open(path).unwrap().into());
        let ended = run(&place, &format!("-f {file} plan --json"), input);
        let document: serde_json::Value = serde_json::from_str(&ended.said).unwrap();
        assert_eq!((ended.code, &document["error"]["exit_code"]), (Some(65), &65.into()));
        assert_eq!(document["error"]["code"], "sbx::too-large");
        assert_eq!(document["error"]["message"], format!("{name} is larger than {} MiB", most >> 20));
    }
}

#[test]
fn a_billion_laughs() {
    let place = Place::new();
    let mut text = format!("{BEGINNING}x0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..30 {
        let aliases = vec![format!("*x{}", level - 1); 9].join(", ");
        writeln!(text, "x{level}: &x{level} [{aliases}]").unwrap();
    }
    place.write("laughs.yaml", text);
    refused(&place, "lists", "laughs.yaml", "sbx::alias-budget", Stdio::null);

    let mut text = format!("{BEGINNING}x0: &x0 {{ a: lol, b: lol }}\n");
    for level in 1..60 {
        let before = level - 1;
        writeln!(text, "x{level}: &x{level} {{ <<: *x{before}, a: *x{before}, b: *x{before} }}").unwrap();
    }
    place.write("merges.yaml", text);
    refused(&place, "merges", "merges.yaml", "sbx::alias-budget", Stdio::null);
}

#[test]
fn endless_nesting() {
    let place = Place::new();
    for (name, open) in [("lists", "["), ("mappings", "{a: "), ("items", "- "), ("keys", "? ")] {
        place.write("deep.yaml", format!("{BEGINNING}sandboxes:\n  {}", open.repeat(500_000)));
        refused(&place, name, "deep.yaml", "sbx::too-deep", Stdio::null);
    }
    let mut text = format!("{BEGINNING}sandboxes:\n");
    for level in 1..1000 {
        writeln!(text, "{:level$}a:", "").unwrap();
    }
    place.write("deep.yaml", text);
    refused(&place, "indented", "deep.yaml", "sbx::too-deep", Stdio::null);
}

#[test]
fn wide_aliases() {
    let place = Place::new();
    let long = "x".repeat(1 << 20);
    let aliases = "*a, ".repeat(200_000);
    place.write("wide.yaml", format!("{BEGINNING}x: &a {long}\nsandboxes: [{aliases}]\n"));
    refused(&place, "a long text", "wide.yaml", "sbx::alias-budget", Stdio::null);

    let list = "v, ".repeat(20_000);
    place.write("wide.yaml", format!("{BEGINNING}x: &a [{list}]\nsandboxes: [{aliases}]\n"));
    refused(&place, "a long list", "wide.yaml", "sbx::alias-budget", Stdio::null);

    let keys: String = (0..10_000).fold(String::new(), |mut keys, key| {
        let _ = write!(keys, "k{key}: v, ");
        keys
    });
    let merges = "{ <<: *a }, ".repeat(50_000);
    place.write("wide.yaml", format!("{BEGINNING}x: &a {{ {keys} }}\nsandboxes: [{merges}]\n"));
    refused(&place, "merged again and again", "wide.yaml", "sbx::alias-budget", Stdio::null);
}

/// As much of everything as 16 MiB hold. Not optimised the program takes seconds for each and half of them for its own
/// code, so what is judged is the memory that the text alone takes, with what the program for users has besides.
#[test]
fn the_most_that_is_read_takes_no_more_memory() {
    const PROGRAM: u64 = 9_000_000;
    let place = Place::new();
    place.write("small.yaml", BEGINNING);
    let small = run(&place, "-f small.yaml validate --format json", Stdio::null()).memory;
    // The items that take most: there are as many as may be, and as long as fit.
    let items: String = (0..schema::document::MAX_NODES).fold(String::from("a: ["), |mut items, item| {
        let _ = write!(items, "v{item:021},");
        items
    });
    let comments = "#\n".repeat(schema::document::MAX_TEXT / 2);
    for (what, text, code) in [("items", items, "sbx::too-large"), ("lines", comments, "sbx::empty-document")] {
        assert!(text.len() > 15 << 20 && text.len() <= schema::document::MAX_TEXT, "{what}: {}", text.len());
        place.write("most.yaml", text);
        let ended = run(&place, "-f most.yaml validate --format json", Stdio::null());
        assert_eq!(ended.code, Some(65), "{what}");
        assert!(ended.said.contains(code), "{what}: {}", ended.said);
        let grown = ended.memory.saturating_sub(small);
        assert!(grown > 16 << 20, "{what}: {grown}: at least the text itself is in memory");
        assert!(grown + PROGRAM < MOST_MEMORY, "{what}: {grown} bytes of memory");
    }
}
