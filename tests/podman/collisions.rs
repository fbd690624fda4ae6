//! Names held by somebody else: forbidden in the plan, untouched by an apply, and free again when they let go.

use crate::engine::Engine;
use crate::on_every_engine;

/// Everything `sbx` would want to have is there already.
const BODY: &str = "secrets: { token: { file: ./token } }\n\
    volumes: { data: {} }\n\
    networks: { inner: {} }\n\
    sandboxes:\n\
    \x20 dev: { image: host, networks: [inner], home: { volume: data }, env: { TOKEN: { secret: token } },\n\
    \x20   worktrees: [{ repo: ./origin.git, branch: work, base: main, path: ./trees/work }] }\n\
    \x20 free: { image: host }";

/// What, the name on the engine, how somebody else comes to have it, and how they let go.
type Hold<'a> = (&'a str, &'a str, &'a dyn Fn(), &'a dyn Fn());

on_every_engine! {
    fn held_by_somebody_else(engine) {
        let image = engine.import_busybox();
        engine.bare_repository("origin.git");
        engine.write("token", "value");
        engine.configure(BODY);
        // The secret's name is known once a first run has made it.
        engine.apply();
        let secret = engine.state().into_keys().find_map(|key| key.strip_prefix("secret ").map(str::to_owned)).unwrap();
        engine.sbx(&["destroy", "--auto-approve", "--volumes", "--worktrees", "--secrets"]).run().expect_code(0);
        assert_eq!(engine.containers().len(), 0);

        let hold: [Hold<'_>; 5] = [
            (
                "container/dev", "demo_dev",
                &|| drop(engine.podman(&["create", "--name", "demo_dev", "--network", "none", image, "true"])),
                &|| drop(engine.podman(&["rm", "demo_dev"])),
            ),
            (
                "volume/data", "demo_data",
                &|| drop(engine.podman(&["volume", "create", "demo_data"])),
                &|| drop(engine.podman(&["volume", "rm", "demo_data"])),
            ),
            (
                "network/inner", "demo_inner",
                &|| drop(engine.podman(&["network", "create", "demo_inner"])),
                &|| drop(engine.podman(&["network", "rm", "demo_inner"])),
            ),
            (
                "secret/token", &secret,
                &|| drop(engine.podman_command(&["secret", "create", &secret, "-"]).input("theirs").ok()),
                &|| drop(engine.podman(&["secret", "rm", &secret])),
            ),
            (
                "worktree/", "",
                &|| drop(engine.write("trees/work/theirs", "mine, not yours")),
                &|| std::fs::remove_dir_all(engine.project().join("trees/work")).unwrap(),
            ),
        ];
        for (resource, name, take, release) in hold {
            take();
            is_left_alone(engine, resource, name);
            release();
        }
        engine.converge();
        assert_eq!(engine.containers().len(), 2);
    }
}

/// The one in the way is named with its line and untouched; what does not need it is done.
fn is_left_alone(engine: &Engine, resource: &str, name: &str) {
    let theirs = |engine: &Engine| {
        let state = engine.state().into_iter();
        state.filter(|(key, _)| !name.is_empty() && key.ends_with(name)).collect::<Vec<_>>()
    };
    let before = theirs(engine);
    let planned = engine.planned();
    let forbidden = format!("forbidden {resource}");
    assert!(planned.iter().any(|change| change.starts_with(&forbidden)), "{resource}: {planned:?}");

    let refused = engine.try_apply(&[]).expect_code(73);
    assert!(refused.told().contains("sandboxes.yaml:") && refused.told().contains(resource), "{}", refused.stderr);
    assert_eq!(theirs(engine), before, "{resource}");
    if resource.starts_with("worktree") {
        assert_eq!(std::fs::read_to_string(engine.project().join("trees/work/theirs")).unwrap(), "mine, not yours");
    }
    assert_eq!(engine.containers()["demo_free"], "running", "{resource}: the rest is done");
    if resource != "container/dev" {
        assert!(!engine.containers().contains_key("demo_dev"), "{resource}: what needs it is not");
    }
    engine.sbx(&["destroy", "--auto-approve", "--volumes", "--worktrees", "--secrets"]).run().expect_code(0);
    assert_eq!(theirs(engine), before, "{resource}: nor does a destroy touch it");
}
