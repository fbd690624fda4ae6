use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// A process in a network namespace of its own, with loopback up.
pub(super) struct Elsewhere(Child);

impl Elsewhere {
    pub(super) fn start() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && read -r line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self(child)
    }

    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn another_namespace_is_dialled_from() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let elsewhere = Elsewhere::start();
    let path = elsewhere.path();
    let listener = namespace::within(&path, || std::net::TcpListener::bind("127.0.0.1:0")).await.unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"from within").await.unwrap();
    });
    let open = Policy { dial_allow: loopback(), ..mapped(&["127.0.0.1"]) };
    let dialer = dialer(Vec::new());
    // Nobody listens there out here.
    let here = dialer.dial(&generation(open.clone()), &host("db.test"), port, TODAY).await.unwrap_err();
    assert!(matches!(here, DialError::Unreachable { .. }), "{here:?}");
    let there = Policy { upstream: Upstream::Netns(path), ..open.clone() };
    let stream = dialer.dial(&generation(there.clone()), &host("db.test"), port, TODAY).await.unwrap();
    assert_eq!(greeting(stream).await, "from within");
    let judged = Policy { dial_allow: Vec::new(), ..there };
    let refused = dialer.dial(&generation(judged), &host("db.test"), port, TODAY).await.unwrap_err();
    assert!(matches!(refused, DialError::Refused { .. }), "{refused:?}");
    let gone = Policy { upstream: Upstream::Netns("/run/netns/no-such".into()), ..open };
    let gone = dialer.dial(&generation(gone), &host("db.test"), port, TODAY).await.unwrap_err();
    assert_eq!(gone.to_string(), "the network namespace /run/netns/no-such cannot be entered");
}

#[tokio::test]
async fn names_are_looked_up_in_the_namespace_they_are_dialled_from() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let elsewhere = Elsewhere::start();
    let path = elsewhere.path();
    let socket = namespace::within(&path, || namespace::udp_socket("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let server = UdpSocket::from_std(socket).unwrap();
    let address = server.local_addr().unwrap();
    let there = Policy { upstream: Upstream::Netns(path), ..Policy::default() };
    let dialer = dialer(vec![address]);
    let generation = generation(there);
    let host = host("only.test");
    let (dialled, asked) = tokio::join!(dialer.dial(&generation, &host, 80, TODAY), async {
        let mut buffer = [0; 1500];
        let mut names = Vec::new();
        for _ in 0..2 {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            names.push(query.name().to_ascii());
            let mut answer = Message::response(question.metadata.id, OpCode::Query);
            answer.metadata.response_code = ResponseCode::NXDomain;
            answer.add_query(query);
            server.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
        names
    });
    assert!(matches!(dialled, Err(DialError::NotFound { .. })), "{dialled:?}");
    assert_eq!(asked, ["only.test.", "only.test."]);
}
