use super::*;
use crate::http::walk::walk;
use crate::{fuzz, fuzzing};

/// What becomes of `text` followed by more, as it arrives at once and in every two pieces.
fn read(text: &[u8]) -> Result<Head, Malformed> {
    let whole = end(text, 0).and_then(|end| check(&text[..end.expect("a whole head")]));
    for cut in 0..text.len() {
        let pieces = match end(&text[..cut], 0) {
            Ok(None) => end(text, cut),
            done => done,
        };
        let pieces = pieces.and_then(|end| check(&text[..end.expect("a whole head")]));
        assert_eq!(pieces, whole, "{:?} cut at {cut}", text.escape_ascii().to_string());
    }
    whole
}

/// A request that is fine, but for what a case puts into it.
fn with(line: &str, headers: &str) -> Vec<u8> {
    format!("{line}\r\n{headers}\r\n").into_bytes()
}

const GET: &str = "GET /a?b=c HTTP/1.1";
const HOST: &str = "Host: example.org\r\n";

#[test]
fn what_may_be_read() {
    use After::{Request, Tunnel, Upgrade};
    let cases: &[(&str, &str, Framing, After)] = &[
        (GET, HOST, Framing::Length(0), Request),
        ("GET / HTTP/1.0", "", Framing::Length(0), Request),
        ("OPTIONS * HTTP/1.1", HOST, Framing::Length(0), Request),
        ("GET http://example.org/a HTTP/1.1", HOST, Framing::Length(0), Request),
        ("M-SEARCH / HTTP/1.1", HOST, Framing::Length(0), Request),
        ("POST / HTTP/1.1", "Host: a.test\r\nContent-Length: 12\r\n", Framing::Length(12), Request),
        ("POST / HTTP/1.1", "host:a.test\r\ncontent-length:\t 012 \r\n", Framing::Length(12), Request),
        ("POST / HTTP/1.1", "Host: a.test\r\nTransfer-Encoding: Chunked\r\n", Framing::Chunked, Request),
        ("POST / HTTP/1.1", "Host: a.test\r\nX-Odd!#$%&'*+-.^_`|~: \u{e9}\t\r\n", Framing::Length(0), Request),
        (GET, "Host: a.test\r\nUpgrade: websocket\r\n", Framing::Length(0), Request),
        (GET, "Host: a.test\r\nUpgrade: websocket\r\nConnection: keep-alive, upgrade\r\n", Framing::Length(0), Upgrade),
        ("CONNECT a.test:443 HTTP/1.1", "Host: a.test:443\r\n", Framing::Length(0), Tunnel),
        (GET, "Host: a.test\r\nEmpty:\r\n", Framing::Length(0), Request),
    ];
    for (line, headers, framing, after) in cases {
        let text = with(line, headers);
        let head = Head { length: text.len(), framing: *framing, after: *after };
        assert_eq!(read(&text), Ok(head), "{line} {headers}");
        let more = [text.as_slice(), b"\0\n more"].concat();
        assert_eq!(read(&more), Ok(head), "{line} {headers}");
    }
}

#[test]
fn what_others_read_differently_is_refused() {
    use Malformed::{
        BothFramings, Connection, Control, EmptyLine, Folded, HeaderLine, HeaderName, Hosts, Length, Lengths, LineEnd,
        Method, NoHost, RequestLine, Target, TransferEncoding, TunnelBody, Version,
    };
    let cases: &[(&str, &str, Malformed)] = &[
        // Two ways to say where the body ends.
        (GET, "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", BothFramings),
        (GET, "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", BothFramings),
        (GET, "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n", Lengths),
        (GET, "Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", Lengths),
        (GET, "Host: a\r\nContent-Length: 5, 5\r\n", Lengths),
        (GET, "Host: a\r\nContent-Length: +5\r\n", Length),
        (GET, "Host: a\r\nContent-Length: -5\r\n", Length),
        (GET, "Host: a\r\nContent-Length: 0x5\r\n", Length),
        (GET, "Host: a\r\nContent-Length: 5 5\r\n", Length),
        (GET, "Host: a\r\nContent-Length:\r\n", Length),
        (GET, "Host: a\r\nContent-Length: 18446744073709551616\r\n", Length),
        (GET, "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", TransferEncoding),
        (GET, "Host: a\r\nTransfer-Encoding: identity\r\n", TransferEncoding),
        (GET, "Host: a\r\nTransfer-Encoding: xchunked\r\n", TransferEncoding),
        (GET, "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        (GET, "Host: a\r\nTransfer-Encoding: \"chunked\"\r\n", TransferEncoding),
        (GET, "Host: a\r\nTransfer-Encoding:\r\n", TransferEncoding),
        ("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n", TransferEncoding),
        (GET, "Host: a\r\nTransfer-Encoding : chunked\r\n", HeaderName),
        (GET, "Host: a\r\nTransfer-Encoding\t: chunked\r\n", HeaderName),
        (GET, "Host: a\r\nTransfer-Encoding\u{b}: chunked\r\n", HeaderName),
        (GET, "Host: a\r\nTransfer-Encoding: chunked\u{b}\r\n", Control),
        (GET, "Host: a\r\nTransfer-Encoding: chunked\u{c}\r\n", Control),
        (GET, "Host: a\r\n: x\r\n", HeaderName),
        (GET, "Host: a\r\nX(y): x\r\n", HeaderName),
        (GET, "Host: a\r\n\u{e9}: x\r\n", HeaderName),
        (GET, "Host: a\r\nX: y\r\n z\r\n", Folded),
        (GET, "Host: a\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n", Folded),
        (GET, " Host: a\r\n", Folded),
        (GET, "Host: a\r\nno colon here\r\n", HeaderLine),
        // Line ends.
        (GET, "Host: a\nX: y\r\n", LineEnd),
        (GET, "Host: a\r\nX: y\n", LineEnd),
        (GET, "Host: a\rX: y\r\n", LineEnd),
        ("GET / HTTP/1.1\nX: y", HOST, LineEnd),
        (GET, "Host: a\r\n\nX: y\r\n", LineEnd),
        (GET, "Host: a\0\r\n", Control),
        (GET, "Host: a\u{1}\r\n", Control),
        (GET, "Host: a\u{7f}\r\n", Control),
        ("\r\nGET / HTTP/1.1", HOST, EmptyLine),
        ("\nGET / HTTP/1.1", HOST, EmptyLine),
        // Where it goes.
        (GET, "Host: a\r\nHost: a\r\n", Hosts),
        (GET, "Host: a\r\nhOST: b\r\n", Hosts),
        (GET, "X: y\r\n", NoHost),
        (GET, "Host: a\r\nConnection: close, Host\r\n", Connection),
        (GET, "Host: a\r\nConnection: content-length\r\n", Connection),
        (GET, "Host: a\r\nConnection: keep-alive\r\nConnection: Transfer-Encoding\r\n", Connection),
        ("CONNECT a:1 HTTP/1.1", "Host: a:1\r\nContent-Length: 5\r\n", TunnelBody),
        ("CONNECT a:1 HTTP/1.1", "Host: a:1\r\nTransfer-Encoding: chunked\r\n", TunnelBody),
        // The request line.
        ("get / HTTP/1.1", HOST, Method),
        ("G@T / HTTP/1.1", HOST, Method),
        ("G\tT / HTTP/1.1", HOST, Method),
        (" / HTTP/1.1", HOST, Method),
        ("GETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1", HOST, Method),
        ("GET  / HTTP/1.1", HOST, RequestLine),
        ("GET /a b HTTP/1.1", HOST, RequestLine),
        ("GET / HTTP/1.1 ", HOST, RequestLine),
        ("GET /", HOST, RequestLine),
        ("GET / http/1.1", HOST, RequestLine),
        ("GET / HTTP/0.9", HOST, Version),
        ("GET / HTTP/1.2", HOST, Version),
        ("GET / HTTP/1.10", HOST, Version),
        ("PRI * HTTP/2.0", "", Version),
        ("GET /\t HTTP/1.1", HOST, Target),
        ("GET /\u{e9} HTTP/1.1", HOST, Target),
        ("GET /a#b HTTP/1.1", HOST, Target),
        ("GET /a\\b HTTP/1.1", HOST, Target),
        ("GET /<a> HTTP/1.1", HOST, Target),
    ];
    for (line, headers, expected) in cases {
        assert_eq!(read(&with(line, headers)), Err(*expected), "{line:?} {headers:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let many = "X: y\r\n".repeat(MOST_HEADERS - 1);
    assert!(check(&with(GET, &format!("{HOST}{many}"))).is_ok());
    assert_eq!(check(&with(GET, &format!("{HOST}{many}X: y\r\n"))), Err(Malformed::TooMany));
    let long = with(GET, &format!("{HOST}X: {}\r\n", "y".repeat(LONGEST - 48)));
    assert_eq!(end(&long, 0), Ok(Some(long.len())), "{}", long.len());
    let longer = with(GET, &format!("{HOST}X: {}\r\n", "y".repeat(LONGEST)));
    assert_eq!(end(&longer, 0), Err(Malformed::TooLong));
    // Without an end as well.
    assert_eq!(end(&longer[..=LONGEST], 0), Err(Malformed::TooLong));
    assert_eq!(end(&longer[..LONGEST], 0), Ok(None));
}

#[test]
fn requests_of_real_clients_are_read() {
    for (client, bytes) in fuzz::corpus("http-head") {
        let walk = walk(&bytes, usize::MAX);
        let malformed = walk.ended.map(|(_, malformed)| malformed);
        let expected = match client.as_str() {
            "smuggled" => Some(Malformed::BothFramings),
            "preface" => Some(Malformed::Version),
            _ => None,
        };
        assert_eq!(malformed, expected, "{client}");
        assert_eq!(walk.heads.is_empty(), expected.is_some(), "{client}");
    }
}

#[test]
fn fuzzed_requests_are_read_as_another_parser_reads_them_or_not_at_all() {
    let mut accepted = 0;
    fuzz::run("http-head", |bytes, number| {
        let whole = fuzzing::requests(bytes, usize::try_from(number % 97).unwrap() + 1);
        for (start, head) in &whole.heads {
            accepted += 1;
            let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
            let mut request = httparse::Request::new(&mut headers);
            let read = request.parse(&bytes[*start..]);
            assert_eq!(read, Ok(httparse::Status::Complete(head.length)), "{}", bytes.escape_ascii());
            let all = |name: &str| {
                let found = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
                found.map(|header| String::from_utf8_lossy(header.value).into_owned()).collect::<Vec<_>>()
            };
            let framing = match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
                ([], []) => Framing::Length(0),
                ([length], []) => Framing::Length(length.trim().parse().unwrap()),
                ([], [_]) => Framing::Chunked,
                both => panic!("{both:?}"),
            };
            assert_eq!(framing, head.framing);
            assert!(all("host").len() <= 1);
        }
    });
    // Mutations that break everything would prove nothing.
    assert!(accepted > 1000, "{accepted}");
}
