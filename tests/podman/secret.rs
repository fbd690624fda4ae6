//! A secret is where it is meant to be, and nowhere else.

use std::fs;

use crate::engine::Engine;
use crate::invocation::Finished;
use crate::on_every_engine;

/// What must not appear anywhere. Every piece of it would be recognized.
const VALUE: &str = "s3cret-Zm9vYmFy = 'quoted' $HOME:x";
const MARK: &str = "s3cret-Zm9vYmFy";

const FILE: &str = "
images: { base: { rootfs: ./base.tar } }
secrets: { token: { env: CALLERS_TOKEN }, lines: { command: [printf, 'a\\n\\nb \\n\\n'] } }
defaults: { image: base, home: { tmpfs: 8MiB }, env: { PLAIN: text, TOKEN: { secret: token }, AGAIN: { secret: token } } }
sandboxes:
  dev: { command: [sh, -c, 'trap : HUP; sleep 1000'], env: { LINES: { secret: lines } } }
  tight: { security: { readOnly: true }, user: { name: worker, uid: UID, gid: UID, home: /home/worker } }
";

fn configure(engine: &Engine) {
    let tar = engine.rootfs_tar("base.tar");
    engine.write("base.tar", fs::read(tar).unwrap());
    let uid = if engine.kind().is_rootless() { engine.uid() } else { 12_345 };
    engine.configure(&FILE.replace("UID", &uid.to_string()));
}

fn with_value(engine: &Engine, args: &[&str]) -> Finished {
    engine.sbx(args).env("CALLERS_TOKEN", VALUE).run()
}

#[track_caller]
fn absent(what: &str, text: &str) {
    assert!(!text.contains(MARK), "{what} shows the value: {text}");
}

on_every_engine! {
    /// Only what has to know values runs the commands that give them: whoever is in a hurry, or only looks, prompts nobody.
    /// A destroyed project leaves nothing on this host.
    fn nobody_is_asked_without_need(engine) {
        engine.write("base.tar", fs::read(engine.rootfs_tar("base.tar")).unwrap());
        engine.configure(
            "images: { base: { rootfs: ./base.tar } }\n\
             secrets: { slow: { command: [sh, -c, 'touch asked; echo value'] } }\n\
             sandboxes: { dev: { image: base, env: { SLOW: { secret: slow } } } }",
        );
        let asked = engine.project().join("asked");
        let was_asked = || fs::remove_file(&asked).is_ok();
        engine.apply();
        assert!(was_asked());
        for args in [&["logs", "dev"][..], &["exec", "dev", "--", "true"], &["list"], &["stop", "dev"], &["start", "dev"]] {
            engine.sbx(args).run().expect_code(0);
            assert!(!was_asked(), "{args:?}");
        }
        let status = engine.sbx(&["status", "--json"]).run().expect_code(0).json();
        let conditions = status["sandboxes"][0]["conditions"].as_array().unwrap().iter();
        let synced = conditions.filter(|condition| condition["type"] == "Synced").map(|condition| &condition["status"]);
        assert_eq!(synced.collect::<Vec<_>>(), ["True"], "{status:#}");
        assert!(!was_asked());
        engine.expect_nothing_to_do();
        assert!(was_asked());

        let data = engine.home().join(".local/share/sbx");
        let left = || ["authority", "trust"].map(|name| fs::read_dir(data.join(name)).map_or(0, Iterator::count));
        assert_ne!(left(), [0, 0]);
        engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        assert_eq!((was_asked(), left()), (false, [0, 0]));
        engine.sbx(&["status"]).run().expect_code(0);
        engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        assert_eq!((was_asked(), left()), (false, [0, 0]), "nothing is made for what only looks or removes");
    }
}

on_every_engine! {
    /// The main process, what is executed later, and shells have the value.
    fn commands_have_the_value(engine) {
        configure(engine);
        with_value(engine, &["apply", "--auto-approve"]).expect_code(0);
        let main = engine.shell("dev", "for p in /proc/[0-9]*; do read -r name < $p/comm; [ $name = sleep ] && tr '\\0' '\\n' < $p/environ; done; true");
        let expected = format!("TOKEN={VALUE}");
        assert!(main.lines().any(|line| line == expected), "{main}");
        assert!(!main.contains("SBX_SECRET_ENV"), "{main}");
        for sandbox in ["dev", "tight"] {
            assert_eq!(engine.shell(sandbox, "echo \"$TOKEN|$AGAIN|$PLAIN|${SBX_SECRET_ENV-none}\""), format!("{VALUE}|{VALUE}|text|none"));
            // The file is there for the user, and for nobody else.
            let listed = engine.shell(sandbox, "for file in /run/sbx/secrets/*token*; do stat -c '%a %u %g' $file; done; id -u; id -g");
            let lines: Vec<_> = listed.lines().collect();
            assert_eq!(lines[0], format!("400 {} {}", lines[1], lines[2]), "{sandbox}");
        }
        // One newline of the command's output goes, as in a shell; nothing else is touched.
        assert_eq!(engine.inside("dev", &["sh", "-c", "printf %s \"$LINES\" | od -An -c | tr -d ' '"]), "a\\n\\nb\\n");
        let shell = engine.sbx(&["shell", "dev", "--shell", "sh"]).input("echo $TOKEN\n").run().expect_code(0);
        assert_eq!(shell.stdout.trim_end(), VALUE);

        // What the caller sets wins; exit codes are those of the command.
        let mine = engine.sbx(&["exec", "-e", "TOKEN=mine", "dev", "--", "sh", "-c", "echo $TOKEN $AGAIN; exit 7"]).run();
        assert_eq!((mine.code, mine.stdout), (7, format!("mine {VALUE}\n")));
        assert_eq!(engine.sbx(&["exec", "dev", "--", "no-such-command"]).run().code, 127);
        assert_eq!(engine.sbx(&["exec", "dev", "--", "/etc"]).run().code, 126);

        // It outlives a restart of the container, which asks nobody for the value.
        engine.podman(&["restart", "--time", "0", "demo_dev"]);
        assert_eq!(engine.shell("dev", "echo $TOKEN"), VALUE);
    }

    /// Nothing else has it: neither the engine's record, nor anything that we write or run.
    fn nothing_else_shows_it(engine) {
        configure(engine);
        let log = engine.dir().join("argv");
        let plan = with_value(engine, &["plan", "--json", "--out", "saved.plan"]).expect_code(0);
        absent("the plan", &(plan.stdout + &plan.stderr));
        absent("the saved plan", &String::from_utf8_lossy(&fs::read(engine.project().join("saved.plan")).unwrap()));
        // Every command line and environment on the engine's side while it is applied, the caller's own left out.
        let watch = "while [ -e go ]; do cat /proc/[0-9]*/cmdline 2>/dev/null; done > \"$0\"; true";
        engine.write("go", "");
        let watcher = engine.as_root("sh").args(["-c", watch]).arg(&log).start();
        let applied = with_value(engine, &["apply", "--auto-approve", "--json", "--verbose"]).expect_code(0);
        fs::remove_file(engine.project().join("go")).unwrap();
        watcher.finish().expect_code(0);
        absent("apply", &(applied.stdout + &applied.stderr));
        let argv = fs::read(&log).unwrap();
        assert!(String::from_utf8_lossy(&argv).contains("--auto-approve"), "the watcher must be able to see something");
        absent("a command line", &String::from_utf8_lossy(&argv));

        // The positive control, so that the rest means something.
        assert_eq!(engine.shell("dev", "echo $TOKEN"), VALUE);
        for sandbox in ["dev", "tight"] {
            let noted = engine.podman(&["inspect", &format!("demo_{sandbox}")]);
            assert!(noted.contains("SBX_SECRET_ENV="), "{noted}");
            absent("inspect", &noted);
            absent("the API", &engine.container(sandbox).to_string());
            absent("logs", &engine.podman(&["logs", &format!("demo_{sandbox}")]));
        }
        absent("ps", &engine.podman(&["ps", "--all", "--no-trunc", "--format", "json"]));
        absent("secret inspect", &engine.podman(&["secret", "inspect", &secret(engine)]));
        absent("events", &engine.podman(&["events", "--stream=false", "--format", "json"]));
        for args in [&["status", "--json"][..], &["plan", "--json"], &["diff"], &["logs", "dev"]] {
            let said = with_value(engine, args);
            absent(&args.join(" "), &(said.stdout + &said.stderr));
        }
        let log = fs::read_to_string(engine.dir().join("service.log")).unwrap();
        absent("the service's log", &log);
        // Of processes, only those that it is for: the main process of `dev`, which is a shell, and its child.
        let holders = engine.as_root("sh").args(["-c", "grep -l -a -s \"$0\" /proc/[0-9]*/environ | wc -l", MARK]).ok();
        assert_eq!(holders, "2");
        // No file but the engine's own, which are in the user's home without root.
        let files = engine.as_root("grep").args(["-r", "-l", "-a", "-s", MARK]).arg(engine.home()).arg(engine.project()).run();
        let ours = files.stdout.lines().filter(|file| !file.contains("/.local/share/containers/storage/"));
        assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
    }

    /// A value that no variable can hold is refused before anything is made.
    fn impossible_values_are_refused(engine) {
        engine.write("nul", b"a\0b");
        engine.write("long", vec![b'x'; 130_049]);
        engine.write("empty", "");
        for (file, words) in [("nul", "holds a NUL byte"), ("long", "more than 130048 bytes"), ("empty", "is empty")] {
            engine.configure(&format!(
                "secrets: {{ token: {{ file: ./{file} }} }}\nsandboxes: {{ dev: {{ image: host, env: {{ TOKEN: {{ secret: token }} }} }} }}"
            ));
            let refused = engine.try_apply(&[]).expect_code(65);
            let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains(words), "{said}");
            assert!(refused.stderr.contains("sandboxes.yaml:3:"), "{}", refused.stderr);
        }
        assert!(engine.containers().is_empty());
        engine.write("long", vec![b'x'; 130_048]);
        engine.configure(
            "secrets: { token: { file: ./long } }\nsandboxes: { dev: { image: host, env: { TOKEN: { secret: token } } } }",
        );
        engine.apply();
        assert_eq!(engine.shell("dev", "echo ${#TOKEN}"), "130048");
    }
}

fn secret(engine: &Engine) -> String {
    let all = engine.get("/secrets/json");
    let names = all.as_array().unwrap().iter().map(|row| row["Spec"]["Name"].as_str().unwrap());
    names.into_iter().find(|name| name.starts_with("demo_token.")).expect("a secret").to_owned()
}
