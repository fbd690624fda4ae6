//! A project on an engine: its configuration, what `sbx` does about it, and what is really there.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::engine::Engine;
use crate::invocation::Finished;

/// Name of the project that [`Engine::configure`] writes.
pub const PROJECT: &str = "demo";

impl Engine {
    /// Writes `sandboxes.yaml` of the project [`PROJECT`].
    #[track_caller]
    pub fn configure(&self, body: &str) {
        self.write("sandboxes.yaml", format!("apiVersion: sbx/v1\nproject: {PROJECT}\n{body}\n"));
    }

    /// `sbx apply`, nobody asked, with more arguments.
    #[track_caller]
    pub fn try_apply(&self, more: &[&str]) -> Finished {
        self.sbx(&["apply", "--auto-approve"]).args(more).run()
    }

    /// `sbx apply`, which has to succeed.
    #[track_caller]
    pub fn apply(&self) -> Finished {
        self.try_apply(&[]).expect_code(0)
    }

    /// What `sbx plan` would do, as `create container/dev`, unchanged resources left out.
    #[track_caller]
    pub fn planned(&self) -> Vec<String> {
        let plan = self.sbx(&["plan", "--json"]).run().expect_code(0).json();
        changes(&plan).map(|change| format!("{} {}", text(&change["action"]), text(&change["resource"]))).collect()
    }

    /// The planned change of one resource.
    #[track_caller]
    pub fn planned_for(&self, resource: &str) -> Value {
        let finished = self.sbx(&["plan", "--json"]).run().expect_code(0);
        let plan = finished.json();
        let found = changes(&plan).find(|change| change["resource"] == resource).cloned();
        found.unwrap_or_else(|| panic!("nothing is planned for {resource}: {}", finished.stdout))
    }

    /// The plan is empty, and says so with its exit code.
    #[track_caller]
    pub fn expect_nothing_to_do(&self) {
        self.sbx(&["plan", "--detailed-exitcode"]).run().expect_code(0);
    }

    /// Applies; then there is nothing left to do.
    #[track_caller]
    pub fn converge(&self) -> Finished {
        let applied = self.apply();
        self.expect_nothing_to_do();
        applied
    }

    /// A command in a sandbox, which has to succeed; its output.
    #[track_caller]
    pub fn inside(&self, sandbox: &str, command: &[&str]) -> String {
        self.sbx(&["exec", sandbox, "--"]).args(command).ok()
    }

    /// The same through `sh`.
    #[track_caller]
    pub fn shell(&self, sandbox: &str, script: &str) -> String {
        self.inside(sandbox, &["sh", "-c", script])
    }

    /// What the engine itself says about a sandbox's container.
    #[track_caller]
    pub fn container(&self, sandbox: &str) -> Value {
        self.get(&format!("/containers/{PROJECT}_{sandbox}/json"))
    }

    /// Id of a sandbox's container.
    #[track_caller]
    pub fn id(&self, sandbox: &str) -> String {
        text(&self.container(sandbox)["Id"]).to_owned()
    }

    /// Id of PID 1 of a sandbox, as seen inside the engine.
    #[track_caller]
    pub fn pid(&self, sandbox: &str) -> u64 {
        self.container(sandbox)["State"]["Pid"].as_u64().expect("a number")
    }

    /// Name and state of every container, whoever's.
    #[track_caller]
    pub fn containers(&self) -> BTreeMap<String, String> {
        let rows = self.get("/containers/json?all=true");
        let rows = rows.as_array().expect("a list").iter();
        rows.map(|row| (text(&row["Names"][0]).to_owned(), text(&row["State"]).to_owned())).collect()
    }

    /// Everything on the engine: kind and name to what identifies it. Equal states mean that nothing was made anew,
    /// started, stopped or removed.
    #[track_caller]
    pub fn state(&self) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        let mut add = |kind: &str, path: &str, name: fn(&Value) -> String, rest: &[&str]| {
            for row in self.get(path).as_array().unwrap_or(&Vec::new()) {
                let rest: Vec<String> = rest.iter().map(|key| row[*key].to_string()).collect();
                state.insert(format!("{kind} {}", name(row)), rest.join(" "));
            }
        };
        let containers = ["Id", "State", "StartedAt", "Networks"];
        add("container", "/containers/json?all=true", |row| text(&row["Names"][0]).to_owned(), &containers);
        add("volume", "/volumes/json", |row| text(&row["Name"]).to_owned(), &["CreatedAt"]);
        add("network", "/networks/json", |row| text(&row["name"]).to_owned(), &["id"]);
        add("secret", "/secrets/json", |row| text(&row["Spec"]["Name"]).to_owned(), &["ID"]);
        add("image", "/images/json", |row| row["RepoTags"].to_string(), &["Id"]);
        state
    }

    /// `git` as the engine's user, in a directory of the project; its output.
    #[track_caller]
    pub fn git(&self, dir: &str, args: &[&str]) -> String {
        let identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"];
        self.command("git").cwd(self.project().join(dir)).args(identity).args(args).ok()
    }

    /// A bare repository in the project directory with one commit on `main`: a file `file` that says `content`.
    #[track_caller]
    pub fn bare_repository(&self, name: &str) {
        let seed = format!("{name}.seed");
        self.write(format!("{seed}/file"), "content");
        self.git(&seed, &["init", "--quiet", "--initial-branch", "main"]);
        self.git(&seed, &["add", "."]);
        self.git(&seed, &["commit", "--quiet", "--message", "first"]);
        self.git(".", &["clone", "--quiet", "--bare", &seed, name]);
    }

    /// Asks the engine's API, without anything of `sbx` in between.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.answer(path);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.0 200"), "{path}: {answer}");
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}\n{body}"))
    }

    /// The same with whatever it answers, head and body.
    #[track_caller]
    pub fn answer(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("the API service listens");
        write!(stream, "GET /v4.0.0/libpod{path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn changes(plan: &Value) -> impl Iterator<Item = &Value> {
    plan["changes"].as_array().expect("a list of changes").iter().filter(|change| change["action"] != "noop")
}

/// A JSON string.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}
