//! Versions of the control protocol, and what is the same in all of them.

use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;

use super::*;
use crate::control::client::{Client, take_over};
use crate::control::{ControlError, Hello, PROTOCOL, Request, Response, Starter, server};

/// Has `daemon` answer on `socket` as one whose newest version of the protocol is `newest`.
fn answer(daemon: &Daemon, socket: &Path, newest: u32) {
    let listener = server::listen(socket).expect("listening");
    let hello = Hello { protocol: newest, ..Hello::own("1.2.3".into(), Starter::Sbx) };
    tokio::spawn(server::serve(listener, daemon.clone(), hello, Arc::default()));
}

fn enforce() -> Request {
    Request::Enforce { project: "acme".into(), sandbox: "api".into(), policy: Some("a".into()), secrets: token() }
}

#[tokio::test]
async fn the_lower_of_two_newest_versions_is_spoken() {
    let fake = Arc::new(Fake::default());
    let (daemon, dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    let socket = dir.path().join("daemon.sock");
    for theirs in PROTOCOL..=PROTOCOL + 2 {
        answer(&daemon, &socket, theirs);
        for own in PROTOCOL..=PROTOCOL + 2 {
            let mut client = Client::connect_knowing(own, &socket, "9").await.expect("both know the older one");
            assert_eq!(client.daemon.protocol, own.min(theirs), "{own} and {theirs}");
            client.order(&enforce()).await.expect("in force");
        }
    }
}

/// As after an update, and as for a while with an older program of somebody's.
#[tokio::test]
async fn a_take_over_needs_no_common_newest_version() {
    for (theirs, own) in [(PROTOCOL, PROTOCOL + 1), (PROTOCOL + 1, PROTOCOL)] {
        let fake = Arc::new(Fake::default());
        let (daemon, dir) = fake.daemon(Vec::new());
        fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
        daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
        let socket = dir.path().join("daemon.sock");
        answer(&daemon, &socket, theirs);
        let successor = Client::connect_knowing(own, &socket, "9").await.expect("connected");
        let inheritance = take_over(successor).await.expect("handed over");
        assert_eq!((inheritance.sandboxes.len(), inheritance.secrets.len()), (1, 1));
        let (next, _dir) = fake.daemon(inheritance.sandboxes);
        next.inherit(inheritance.secrets).expect("kept");
        next.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect("in force");
        assert_eq!(Fake::count(&fake.attached), 1, "the sockets were taken over");
    }
}

#[tokio::test]
async fn who_has_no_version_in_common_is_told_so() {
    let fake = Arc::new(Fake::default());
    let (daemon, dir) = fake.daemon(Vec::new());
    let socket = dir.path().join("daemon.sock");
    answer(&daemon, &socket, PROTOCOL);
    let refused = Client::connect_knowing(0, &socket, "0.0.1").await.expect_err("not spoken");
    assert!(matches!(&refused, ControlError::Failed(why) if why.contains("1.2.3")), "{refused:?}");

    // One that has forgotten what we know.
    let listener = UnixListener::bind(dir.path().join("later.sock")).expect("listening");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("somebody");
        let mut stream = BufReader::new(stream);
        stream.read_line(&mut String::new()).await.expect("a question");
        let hello = Hello { protocol: PROTOCOL + 1, ..Hello::own("7.0.0".into(), Starter::Sbx) };
        let line = serde_json::to_string(&Response::Hello(hello)).expect("plain data") + "\n";
        stream.write_all(line.as_bytes()).await.expect("said");
    });
    let refused = Client::connect(&dir.path().join("later.sock"), "1.2.3").await.expect_err("not known");
    assert!(matches!(&refused, ControlError::Version(hello) if hello.version == "7.0.0"), "{refused:?}");
    assert!(refused.to_string().contains("version 7.0.0"), "{refused}");
}

#[tokio::test]
async fn a_question_of_a_later_version_is_answered() {
    let fake = Arc::new(Fake::default());
    let (daemon, dir) = fake.daemon(Vec::new());
    let socket = dir.path().join("daemon.sock");
    answer(&daemon, &socket, PROTOCOL);
    let stream = tokio::net::UnixStream::connect(&socket).await.expect("connected");
    let mut stream = BufReader::new(stream);
    // What somebody adds to a question changes nothing.
    let asked = "{\"ask\":\"hello\",\"protocol\":9,\"version\":\"9\",\"mood\":\"fine\"}\n{\"ask\":\"dance\"}\n";
    stream.write_all(asked.as_bytes()).await.expect("asked");
    let mut said = [String::new(), String::new()];
    for line in &mut said {
        stream.read_line(line).await.expect("an answer");
    }
    assert!(said[0].contains(&format!(r#""protocol":{PROTOCOL}"#)), "{said:?}");
    assert!(said[1].contains(r#""answer":"failed""#) && said[1].contains("does not understand"), "{said:?}");
}

/// What a daemon of any version says to one of any other: these lines are for good.
#[test]
fn what_a_hand_over_takes_is_the_same_in_all_versions() {
    let asked = [
        (Request::Hello { protocol: 1, version: "1.2.3".into() }, r#"{"ask":"hello","protocol":1,"version":"1.2.3"}"#),
        (Request::HandOver, r#"{"ask":"hand-over"}"#),
        (Request::Stop, r#"{"ask":"stop"}"#),
    ];
    for (request, line) in asked {
        assert_eq!(serde_json::to_string(&request).expect("plain data"), line);
    }
    let hello = Hello { protocol: 1, version: "1.2.3".into(), pid: 7, starter: Starter::ServiceManager };
    let secret = SecretValue { hash: "sha256:1".into(), value: vec![1, 2] };
    let said = [
        (
            Response::Hello(hello),
            r#"{"answer":"hello","protocol":1,"version":"1.2.3","pid":7,"starter":"service-manager"}"#,
        ),
        (Response::Done, r#"{"answer":"done"}"#),
        (
            Response::Sandboxes { count: 1, secrets: [("sha256:1".to_owned(), secret)].into() },
            r#"{"answer":"sandboxes","count":1,"secrets":{"sha256:1":{"hash":"sha256:1","value":[1,2]}}}"#,
        ),
        (Response::Failed { message: "no".into(), replaced: false }, r#"{"answer":"failed","message":"no"}"#),
    ];
    for (response, line) in said {
        assert_eq!(serde_json::to_string(&response).expect("plain data"), line);
    }
    // What the first ones did not say yet.
    let early: Response =
        serde_json::from_str(r#"{"answer":"hello","protocol":1,"version":"0.1.0","pid":7}"#).expect("read");
    assert!(matches!(early, Response::Hello(hello) if hello.starter == Starter::Person));
}
