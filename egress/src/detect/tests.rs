use super::*;
use crate::{fuzz, fuzzing};

fn detect(bytes: &[u8]) -> Option<Detected> {
    Detector::default().look(bytes)
}

/// Looked at after each of its bytes.
fn detect_slowly(bytes: &[u8]) -> Option<Detected> {
    let mut detector = Detector::default();
    (1..=bytes.len()).find_map(|length| detector.look(&bytes[..length]))
}

#[test]
fn what_is_spoken_is_told_by_first_bytes() {
    use Detected::{Http, Opaque};
    let cases: &[(&[u8], Option<Detected>)] = &[
        (b"", None),
        (b"GET / HTTP/1.1\r\n", Some(Http)),
        (b"GET / HTTP/1.1", None),
        (b"G", None),
        (b"\r\n\r\nPOST /x http/1.1\n", Some(Http)),
        (b"get\t/ HTTP/1.0\r\n", Some(Http)),
        (b"PRI * HTTP/2.0\r\n", Some(Http)),
        (b"CONNECT a:1 HTTP/1.1\r\n", Some(Http)),
        (b"M-SEARCH!#$%&'*+.^_`|~ * HTTP/1.1\n", Some(Http)),
        (b"GET  /\x01 HTTP/1.1 \r\n", Some(Http)),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Some(Opaque)),
        (b"GET key\r\n", Some(Opaque)),
        (b"*1\r\n$4\r\nPING\r\n", Some(Opaque)),
        (b"EHLO example.org\r\n", Some(Opaque)),
        (b"RTSP * RTSP/1.0\r\n", Some(Opaque)),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Some(Opaque)),
        (b"AMQP\0\0\x09\x01", Some(Opaque)),
        (b"0032git-upload-pack /project.git\0host=x\0", Some(Opaque)),
        (b"\x16\x02", Some(Opaque)),
        (b" GET / HTTP/1.1\r\n", Some(Opaque)),
        (b"\x80\0\0\x28", Some(Opaque)),
        (b"\x80\x2e\x01\x03\x01\0\x15\0\0\0", None),
    ];
    for (bytes, detected) in cases {
        assert_eq!(detect(bytes), *detected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn tls_is_never_taken_for_something_else() {
    for (client, bytes) in fuzz::corpus("client-hello") {
        assert!(matches!(detect(&bytes), Some(Detected::Tls(_))), "{client}");
        assert!(matches!(detect_slowly(&bytes), Some(Detected::Tls(_))), "{client}");
        assert_eq!(detect(&bytes[..bytes.len() - 1]), None, "{client}");
    }
    assert_eq!(detect(b"\x16\x03\x01\x00\x00"), Some(Detected::Broken(Fault::Malformed)));
    let mut ssl2 = b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10".to_vec();
    assert_eq!(detect(&ssl2), Some(Detected::Ssl2));
    ssl2[6] = 0x14;
    assert_eq!(detect(&ssl2), Some(Detected::Opaque));
}

#[test]
fn what_ends_before_it_could_be_told_is_judged_by_what_there_is() {
    let end = |bytes: &[u8]| Detector::default().end(bytes);
    assert_eq!(end(b""), Detected::Opaque);
    assert_eq!(end(b"HELLO"), Detected::Opaque);
    assert_eq!(end(b"GET / HTTP/1.1"), Detected::Http);
    assert_eq!(end(b"\x16\x03\x01"), Detected::Broken(Fault::Malformed));
}

#[test]
fn a_request_line_has_its_bounds() {
    let mut long = b"GET /".to_vec();
    long.resize(MAX_LINE, b'a');
    assert_eq!(detect(&long), None);
    long.push(b'a');
    assert_eq!(detect(&long), Some(Detected::Http));
    assert_eq!(detect(&vec![b'A'; MAX_LINE]), None);
    assert_eq!(detect(&vec![b'A'; MAX_LINE + 1]), Some(Detected::Http));
}

/// Each of these some server takes for a request, and reads a host from what follows.
#[test]
fn what_lenient_servers_take_for_a_request_is_one() {
    let blank = [&b"\r\n".repeat(MAX_BLANK)[..], b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"].concat();
    let long = [&[b'A'; 99][..], b" / HTTP/1.1\r\nHost: other.example\r\n\r\n"].concat();
    for request in [&blank[..], &long, b"GET http://other.example/x\r\n"] {
        assert_eq!(detect(request), Some(Detected::Http), "{}", String::from_utf8_lossy(request));
    }
    for other in [&b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..], b"EHLO mail.example\r\n", b"PING\r\n", b"GET /x\r\n"] {
        assert_eq!(detect(other), Some(Detected::Opaque), "{}", String::from_utf8_lossy(other));
    }
}

#[test]
fn pieces_make_no_difference() {
    for name in ["client-hello", "first-bytes"] {
        fuzz::run(name, |bytes, _| drop(fuzzing::first_bytes(bytes)));
    }
}
