use super::*;

#[tokio::test]
async fn a_look_keeps_nobody_waiting_and_is_not_doubled() {
    let (answer, begun) = (Arc::new(Notify::new()), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let look = || {
        let (answer, begun) = (Arc::clone(&answer), Arc::clone(&begun));
        async move {
            begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            answer.notified().await;
        }
    };
    let settled = || async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        begun.load(std::sync::atomic::Ordering::Relaxed)
    };
    let mut looking = Looking::default();
    looking.go(look());
    assert_eq!(settled().await, 0, "nobody wants one");
    looking.hint();
    looking.go(look());
    assert_eq!(settled().await, 1);
    // The engine says nothing: what is due is looked at by the one under way.
    looking.hint();
    looking.go(look());
    answer.notify_one();
    assert_eq!(settled().await, 1);
    looking.go(look());
    assert_eq!(settled().await, 1);
    // A person who asks gets one that began after that.
    looking.ask();
    looking.go(look());
    assert_eq!(settled().await, 2);
    looking.ask();
    looking.go(look());
    assert_eq!(settled().await, 2);
    answer.notify_one();
    settled().await;
    looking.go(look());
    assert_eq!(settled().await, 3);
}

#[test]
fn nobody_else_begins_before_all_that_was_under_way_has_ended() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lock = open(file.path()).expect("opened");
    assert!(try_lock(&lock, file.path()).expect("tried"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("started");
    let (begun, begins) = std::sync::mpsc::channel();
    let (ending, ends) = std::sync::mpsc::channel::<()>();
    // Dropped when the runtime begins to end.
    runtime.spawn(async move {
        let _ending = ending;
        std::future::pending::<()>().await;
    });
    let (tell, told) = std::sync::mpsc::channel();
    let other = open(file.path()).expect("opened");
    let path = file.path().to_owned();
    runtime.spawn_blocking(move || {
        begun.send(()).expect("somebody waits");
        ends.recv().expect_err("nothing is said");
        tell.send(try_lock(&other, &path).expect("tried")).expect("somebody waits");
    });
    begins.recv().expect("it begins");
    end(runtime, Some(lock));
    assert!(!told.recv().expect("told"), "while it was at work");
    assert!(try_lock(&open(file.path()).expect("opened"), file.path()).expect("tried"), "afterwards");
}

#[test]
fn an_older_one_gives_way_and_one_that_was_only_needed_to_those_who_stay() {
    let expected = |replace, own: Starter, there: &str, starter: Starter| {
        let manner = Manner { starter: own, replace, metrics: None };
        let hello = Hello { version: there.to_owned(), ..Hello::own(String::new(), starter) };
        may_replace(&manner, &hello, "1.10.0").map_err(|failure| (failure.exit, failure.message.clone()))
    };
    let [person, sbx, unit] = [Starter::Person, Starter::Sbx, Starter::ServiceManager];
    for (own, starter) in [(person, person), (sbx, unit), (unit, sbx), (sbx, sbx)] {
        assert_eq!(expected(true, own, "1.9.0", starter), Ok(()));
        assert!(expected(false, own, "1.9.0", starter).is_err(), "nobody asked for it");
        let (exit, message) = expected(true, own, "1.11.0", starter).expect_err("it is newer");
        assert_eq!(exit, Exit::TryAgain);
        assert!(message.contains("1.11.0") && message.contains("1.10.0"), "{message}");
    }
    for own in [person, unit] {
        assert_eq!(expected(true, own, "1.10.0", sbx), Ok(()));
        assert!(expected(true, own, "1.10.0", person).is_err());
        assert!(expected(true, own, "1.10.0", unit).is_err());
    }
    assert!(expected(true, sbx, "1.10.0", sbx).is_err());
}

#[test]
fn as_many_descriptors_as_are_of_use() {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: before.maximum })
        .expect("less is always possible");
    let raised = descriptors();
    assert_eq!(getrlimit(Resource::Nofile).current, Some(raised));
    assert_eq!(raised, before.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS)));
    // As many again change nothing.
    assert_eq!(descriptors(), raised);
}
