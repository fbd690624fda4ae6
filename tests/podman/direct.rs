//! Mode `direct`: the engine's own network behind a packet filter that our resolver fills.

use std::time::Duration;

use crate::egress::{CUT, Client, FAR, Far, KEPT, daemon, does_not_reach, reaches};
use crate::engine::Engine;
use crate::on_every_engine;
use crate::project::text;
use crate::wait::wait_for;

/// Where the sandbox `beside` listens, on the engine's network.
const BESIDE: u16 = 7003;

/// Two sandboxes on the engine's network: `beside` under no rules, and `dev`, under rules for these names and ports. The
/// first thing that each does is to knock at the far end's other port.
fn configuration(names: &[(&str, u16)], beside: &str, dial: &str) -> String {
    let rules: Vec<String> =
        names.iter().map(|(name, port)| format!("{{ host: {name}, ports: [{port}], protocol: tcp }}")).collect();
    let knock = format!("(exec 3<>/dev/tcp/{FAR}/{CUT}) 2>/dev/null");
    let listen = format!(
        "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => {BESIDE}, Listen => 9, ReuseAddr => 1) or die; \
         while (my $c = $s->accept) {{ print $c \"hello\\n\"; close $c }}"
    );
    format!(
        "sandboxes:\n  \
         beside:\n    image: host\n    command: [bash, -c, {}]\n    egress: {{ mode: open }}\n  \
         dev:\n    image: host\n    command: [bash, -c, {}]\n    egress:\n      mode: direct\n      allow: [{}]\n      \
         hosts: {{ kept.test: [{FAR}], cut.test: [{FAR}], beside.test: [{beside}] }}\n      dial: {{ allowRanges: [{dial}] }}\n",
        serde_json::json!(format!("{knock}; exec perl -e '{listen}'")),
        serde_json::json!(format!("{knock}; exec sleep 1000")),
        rules.join(", "),
    )
}

/// The address of a sandbox on the engine's network.
fn address(engine: &Engine, sandbox: &str) -> String {
    text(&engine.container(sandbox)["NetworkSettings"]["Networks"]["podman"]["IPAddress"]).to_owned()
}

/// Whether a client in `beside`, under no rules, hears the greeting.
fn open_reaches(engine: &Engine, host: &str, port: u16) -> bool {
    let script = format!("exec 3<>/dev/tcp/{host}/{port} && IFS= read -r -t 5 line <&3 && echo \"$line\"");
    engine.sbx(&["exec", "-T", "beside", "--", "bash", "-c", &script]).run().stdout == "hello\n"
}

on_every_engine! {
    /// What a name that is allowed means is reached over the engine's network, at its port; nothing else of that network is,
    /// nor of what lies beyond, before a name was asked for.
    fn names_are_opened(engine) {
        let (kept, cut) = (Far::at(engine, KEPT), Far::at(engine, CUT));
        let all = [("kept.test", KEPT), ("beside.test", BESIDE)];
        engine.configure(&configuration(&all, "192.0.2.9", ""));
        engine.converge();
        let beside = address(engine, "beside");
        assert!(beside.starts_with("10."), "it is on the engine's network: {beside}");
        assert_eq!(cut.accepted(), 1, "only what is under no rules knocked");
        let id = engine.id("dev");

        // Controls: without rules all of it is reached.
        assert!(open_reaches(engine, FAR, KEPT) && open_reaches(engine, FAR, CUT));
        wait_for("the neighbour", Duration::from_secs(5), || open_reaches(engine, &beside, BESIDE).then_some(()));
        let arrived = (kept.accepted(), cut.accepted());
        does_not_reach(engine, FAR, KEPT);
        does_not_reach(engine, &beside, BESIDE);
        assert_eq!((kept.accepted(), cut.accepted()), arrived, "nothing left before a name was asked for");

        reaches(engine, "kept.test", KEPT);
        // Known to be weaker: the address is open, whatever name it is asked for by.
        reaches(engine, FAR, KEPT);
        let arrived = (kept.accepted(), cut.accepted());
        does_not_reach(engine, FAR, CUT);
        does_not_reach(engine, "kept.test", CUT);
        does_not_reach(engine, "cut.test", KEPT);
        does_not_reach(engine, "nowhere.test", KEPT);
        assert_eq!((kept.accepted(), cut.accepted()), arrived);

        // A name that is allowed means a neighbour: its address is not to be dialled, unless that is said.
        engine.configure(&configuration(&all, &beside, ""));
        engine.apply();
        does_not_reach(engine, "beside.test", BESIDE);
        does_not_reach(engine, &beside, BESIDE);
        engine.configure(&configuration(&all, &beside, &format!("{beside}/32")));
        engine.converge();
        reaches(engine, "beside.test", BESIDE);
        does_not_reach(engine, &beside, 22);
        assert_eq!(engine.id("dev"), id, "another policy is no other container");

        let log = engine.sbx(&["egress", "log", "dev"]).ok();
        assert!(log.contains("allowed dns kept.test"), "{log}");
        let denied = engine.sbx(&["egress", "log", "dev", "--denied"]).ok();
        assert!(denied.contains("nowhere.test") && denied.contains("beside.test"), "{denied}");
        let status = engine.sbx(&["status", "--json"]).run().json();
        let rows = status["sandboxes"].as_array().unwrap().iter();
        let dev: Vec<_> = rows.filter(|row| row["name"] == "dev" || row["sandbox"] == "dev").collect();
        assert_eq!(dev[0]["egress"]["attached"], true, "{status}");
    }

    /// A change cuts what it revokes, and nothing else.
    fn a_policy_changes(engine) {
        let (kept, _cut) = (Far::at(engine, KEPT), Far::at(engine, CUT));
        let both = [("kept.test", KEPT), ("cut.test", CUT)];
        engine.configure(&configuration(&both, "192.0.2.9", ""));
        engine.converge();
        let mut stays = Client::of(engine, "kept.test", KEPT);
        let mut goes = Client::sending(engine, "cut.test", CUT);
        engine.configure(&configuration(&both[..1], "192.0.2.9", ""));
        let change = engine.planned_for("policy/dev");
        assert_eq!((text(&change["action"]), &change["cuts"][0]), ("update", &format!("cut.test:{CUT}").into()), "{change}");
        engine.apply();
        assert_eq!(goes.line(), "cut\n", "the revoked flow ends with its next packet");
        kept.say("still here");
        assert_eq!(stays.line(), "still here\n");
        does_not_reach(engine, "cut.test", CUT);
        does_not_reach(engine, FAR, CUT);
        engine.expect_nothing_to_do();
    }

    /// Without a daemon what was opened stays so for its time, and nothing is opened; another one takes it on.
    fn a_daemon_is_killed(engine) {
        let (kept, cut) = (Far::at(engine, KEPT), Far::at(engine, CUT));
        engine.configure(&configuration(&[("kept.test", KEPT), ("cut.test", CUT)], "192.0.2.9", ""));
        engine.converge();
        let mut stays = Client::of(engine, "kept.test", KEPT);
        let (id, pid) = (engine.id("dev"), engine.pid("dev"));
        engine.as_root("kill").args(["-9", &daemon(engine)["pid"].to_string()]).ok();
        wait_for("its end", Duration::from_secs(5), || {
            engine.sbx(&["daemon", "status"]).run().stdout.contains("No daemon").then_some(())
        });
        kept.say("last good");
        assert_eq!(stays.line(), "last good\n");
        reaches(engine, FAR, KEPT);
        let arrived = cut.accepted();
        does_not_reach(engine, "cut.test", CUT);
        does_not_reach(engine, FAR, CUT);
        assert_eq!(cut.accepted(), arrived);

        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        wait_for("the sandbox to be served again", Duration::from_secs(2), || {
            daemon(engine)["sandboxes"][0]["policy"].is_string().then_some(())
        });
        kept.say("and on");
        assert_eq!(stays.line(), "and on\n");
        reaches(engine, "cut.test", CUT);
        engine.expect_nothing_to_do();
        assert_eq!((engine.id("dev"), engine.pid("dev")), (id, pid));
        // Without it there is no start either: the gate holds.
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        engine.podman(&["restart", "--time", "1", "demo_dev"]);
        let refused = engine.sbx(&["exec", "dev", "--", "true"]).run().expect_code(1);
        assert!(refused.told().contains("waits at its gate"), "{}", refused.stderr);
    }
}
