//! What fails in passing is tried again, with pauses that grow, and not for ever.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::backend::{Observe, Progress};
use crate::facts::{ProbeQuery, Probes, Query, Snapshot};
use crate::plan::{FORMAT_VERSION, PlanEngine, Step, Summary};

/// Fails so often at each container before it works, with errors of this kind; remembers what it was asked and when.
struct Flaky {
    failures: usize,
    kind: ErrorKind,
    begun: Instant,
    asked: Mutex<Vec<(String, u128)>>,
}

impl Flaky {
    fn new(failures: usize, kind: ErrorKind) -> Self {
        Self { failures, kind, begun: Instant::now(), asked: Mutex::default() }
    }

    /// When it was asked to do something about `container`, in milliseconds.
    fn times(&self, container: &str) -> Vec<u128> {
        let asked = self.asked.lock().expect("whole");
        asked.iter().filter(|(name, _)| name == container).map(|(_, at)| *at).collect()
    }
}

#[async_trait]
impl Observe for Flaky {
    async fn snapshot(&self, _query: &Query) -> Result<Snapshot, BackendError> {
        Err(BackendError::new(ErrorKind::Failed, "nobody looks"))
    }

    async fn probe(&self, _query: &ProbeQuery) -> Result<Probes, BackendError> {
        Err(BackendError::new(ErrorKind::Failed, "nobody looks"))
    }
}

#[async_trait]
impl Perform for Flaky {
    async fn perform(&self, op: &Op, _progress: Progress<'_>) -> Result<(), BackendError> {
        if let Op::LockWorktree { .. } | Op::RemoveWorktree { .. } = op {
            // A clone that another process makes.
            tokio::time::sleep(std::time::Duration::from_mins(10)).await;
            return Ok(());
        }
        let Op::StopContainer { container } = op else {
            return Err(BackendError::new(ErrorKind::Failed, format!("not planned: {op:?}")));
        };
        self.asked.lock().expect("whole").push((container.clone(), self.begun.elapsed().as_millis()));
        if container == "broken" {
            return Err(BackendError::new(ErrorKind::Failed, "for good"));
        }
        let failed = self.times(container).len() <= self.failures;
        if failed { Err(BackendError::new(self.kind, "busy")) } else { Ok(()) }
    }
}

fn stop(container: &str) -> Op {
    Op::StopContainer { container: container.to_owned() }
}

fn step(container: &str, undo: Vec<Op>) -> Step {
    Step { title: format!("stop {container}"), op: stop(container), undo, commits: false }
}

/// A plan of one change with these steps.
fn plan(action: Action, steps: Vec<Step>) -> Plan {
    let change = Change {
        resource: ResourceId::new("container", "api"),
        sandbox: None,
        kind: "container".to_owned(),
        action,
        because: Vec::new(),
        drift: false,
        fields: Vec::new(),
        unchanged: 0,
        loses: Vec::new(),
        cuts: Vec::new(),
        origin: None,
        after: Vec::new(),
        steps,
    };
    Plan {
        format_version: FORMAT_VERSION.to_owned(),
        project: "acme".to_owned(),
        generated_at: String::new(),
        engine: PlanEngine { kind: String::new(), version: String::new() },
        changes: vec![change],
        summary: Summary::default(),
        warnings: Vec::new(),
        partial: false,
        basis: Vec::new(),
    }
}

/// How the only change of `plan` ends, and which attempts were told.
async fn run(backend: &Flaky, plan: &Plan) -> (Ending, Vec<u32>) {
    let retries = Mutex::new(Vec::new());
    let on_event = |event: Event| {
        if let Event::Retry { attempt, message, .. } = event {
            assert_eq!(message, "busy");
            retries.lock().expect("whole").push(attempt);
        }
    };
    let (_keep, stop) = watch::channel(false);
    let mut outcome = execute(plan, backend, &ExecuteOptions::default(), stop, &on_event).await;
    let ending = outcome.results.pop().expect("one change").ending;
    (ending, retries.into_inner().expect("whole"))
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_passing_is_tried_again() {
    let backend = Flaky::new(2, ErrorKind::Transient);
    let plan = plan(Action::Update, vec![step("one", Vec::new()), step("two", Vec::new())]);
    assert_eq!(run(&backend, &plan).await, (Ending::Done, vec![2, 3, 2, 3]));
    // Pauses double, and begin anew with each step.
    assert_eq!(backend.times("one"), [0, 100, 300]);
    assert_eq!(backend.times("two"), [300, 400, 600]);
}

#[tokio::test(start_paused = true)]
async fn not_for_ever() {
    let backend = Flaky::new(usize::MAX, ErrorKind::Transient);
    let plan = plan(Action::Update, vec![step("one", Vec::new()), step("two", Vec::new())]);
    let (ending, retries) = run(&backend, &plan).await;
    assert!(matches!(ending, Ending::Failed { kind: ErrorKind::Transient, .. }), "{ending:?}");
    assert_eq!(retries, [2, 3, 4]);
    assert_eq!(backend.times("one"), [0, 100, 300, 700]);
    assert!(backend.times("two").is_empty(), "what comes after is not tried");
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_good_is_not_tried_again() {
    for kind in [ErrorKind::Failed, ErrorKind::Conflict, ErrorKind::NotFound, ErrorKind::TimedOut, ErrorKind::NoSpace] {
        let backend = Flaky::new(1, kind);
        let (ending, retries) = run(&backend, &plan(Action::Update, vec![step("one", Vec::new())])).await;
        assert!(matches!(ending, Ending::Failed { kind: got, .. } if got == kind), "{ending:?}");
        assert_eq!((retries, backend.times("one")), (vec![], vec![0]), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_is_tried_again_too() {
    let backend = Flaky::new(2, ErrorKind::Transient);
    let steps = vec![step("new", vec![stop("undone")]), step("broken", Vec::new())];
    let (ending, retries) = run(&backend, &plan(Action::Replace, steps)).await;
    assert!(matches!(ending, Ending::Failed { rolled_back: true, .. }), "{ending:?}");
    assert_eq!(retries, [2, 3, 2, 3]);
    assert_eq!(backend.times("undone"), [300, 400, 600]);
}

/// What comes of `plan` when a stop is asked for as soon as its first step begins.
async fn stopped_at_once(plan: &Plan) -> Outcome {
    let (asking, stop) = watch::channel(false);
    let on_event = |event: Event| {
        if let Event::Step { .. } = event {
            asking.send_replace(true);
        }
    };
    execute(plan, &Flaky::new(0, ErrorKind::Failed), &ExecuteOptions::default(), stop, &on_event).await
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_comes_too_late_interrupts_nothing() {
    let outcome = stopped_at_once(&plan(Action::Update, vec![step("one", Vec::new())])).await;
    assert!(outcome.is_done(), "{outcome:?}");
    let outcome = stopped_at_once(&plan(Action::Update, vec![step("one", Vec::new()), step("two", Vec::new())])).await;
    assert!(outcome.interrupted && !outcome.is_done(), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn git_may_wait_for_another_process() {
    let spec = crate::spec::WorktreeSpec {
        repo: String::new(),
        clone: "/clone".into(),
        path: "/tree".into(),
        branch: "main".into(),
        base: None,
    };
    let lock = Op::LockWorktree { spec, holder: "acme/api".to_owned(), from: None };
    let step = Step { title: "lock it".to_owned(), op: lock, undo: Vec::new(), commits: false };
    let (ending, _) = run(&Flaky::new(0, ErrorKind::Failed), &plan(Action::Update, vec![step])).await;
    assert_eq!(ending, Ending::Done);
}
