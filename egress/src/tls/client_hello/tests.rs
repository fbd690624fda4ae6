use super::*;
use crate::{fuzz, fuzzing};

const NAME: u16 = SERVER_NAME;

/// A server name extension with these entries.
fn names(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> = entries
        .iter()
        .flat_map(|(kind, name)| [&[*kind][..], &u16::try_from(name.len()).unwrap().to_be_bytes(), name].concat())
        .collect();
    [&u16::try_from(list.len()).unwrap().to_be_bytes()[..], &list].concat()
}

fn name(name: &str) -> (u16, Vec<u8>) {
    (NAME, names(&[(0, name.as_bytes())]))
}

/// The handshake message with these extensions.
fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, value)| {
            [&kind.to_be_bytes()[..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
        })
        .collect();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0x13, 1, 0x13, 2]);
    body.extend([1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO][..], &length[1..], &body].concat()
}

/// A message cut into records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record =
        |part: &[u8]| [&[HANDSHAKE, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
    message.chunks(size).flat_map(record).collect()
}

fn read(bytes: &[u8]) -> Result<Option<ClientHello>, Fault> {
    Reader::default().feed(bytes)
}

/// Read in pieces of `size` bytes.
fn read_in(bytes: &[u8], size: usize) -> Result<Option<ClientHello>, Fault> {
    let mut reader = Reader::default();
    for piece in bytes.chunks(size) {
        if let Some(hello) = reader.feed(piece)? {
            return Ok(Some(hello));
        }
    }
    Ok(None)
}

fn mismatch(extensions: &[(u16, Vec<u8>)], host: &str) -> Option<&'static str> {
    read(&records(&message(extensions), 4000)).unwrap().unwrap().mismatch(&host.parse().unwrap())
}

/// The name a server of another make would see; `None` if it takes no connection, or sees none.
fn named_by_rustls(mut bytes: &[u8]) -> Option<String> {
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut bytes).ok()?;
    let accepted = acceptor.accept().ok()??;
    accepted.client_hello().server_name().map(str::to_owned)
}

fn example() -> Host {
    "example.org".parse().unwrap()
}

#[test]
fn hellos_of_real_clients_name_their_host() {
    for (client, bytes) in fuzz::corpus("client-hello") {
        let hello = read(&bytes).unwrap().unwrap();
        let named = hello.name.map(|name| name.to_string());
        assert_eq!(named.as_deref(), (!client.contains("no-name")).then_some("example.org"), "{client}");
        assert!(!hello.encrypted, "{client}");
    }
}

#[test]
fn the_hello_of_the_library_used_here_is_read() {
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client =
        rustls::ClientConnection::new(std::sync::Arc::new(config), "example.org".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    assert_eq!(read(&bytes).unwrap().unwrap().mismatch(&example()), None);
}

#[test]
fn single_bytes_and_many_records_make_no_difference() {
    let grease = (0x2a2a, vec![0]);
    let long = (21, vec![0; 12_000]);
    let message = message(&[grease, long, name("example.org")]);
    for record in [1, 2, 5, 100, 4000, MAX_RECORD] {
        let bytes = records(&message, record);
        if bytes.len() > MAX_BYTES {
            assert_eq!(read_in(&bytes, 1), Err(Fault::TooLong));
            continue;
        }
        for piece in [1, 3, 1400, bytes.len()] {
            let hello = read_in(&bytes, piece).unwrap().unwrap();
            assert_eq!(hello.mismatch(&example()), None, "records of {record}, pieces of {piece}");
        }
        assert_eq!(read(&bytes[..bytes.len() - 1]), Ok(None), "not before its last byte");
    }
}

#[test]
fn the_name_must_be_the_one_that_the_connection_is_for() {
    assert_eq!(mismatch(&[name("example.org")], "example.org"), None);
    assert_eq!(mismatch(&[name("EXAMPLE.org")], "example.org"), None, "names have no case");
    assert_eq!(mismatch(&[name("other.example.org")], "example.org"), Some("sni-mismatch"));
    assert_eq!(mismatch(&[name("example.org")], "sub.example.org"), Some("sni-mismatch"));
    assert_eq!(mismatch(&[], "example.org"), Some("sni-missing"));
    assert_eq!(mismatch(&[name("192.0.2.1")], "example.org"), Some("sni-mismatch"));
    for odd in
        ["example.org.", "example.org\0", "exa mple.org", "[::1]", "127.1", "*.example.org", "b\u{fc}cher.example"]
    {
        assert_eq!(mismatch(&[name(odd)], "example.org"), Some("sni-malformed"), "{odd:?}");
    }
}

#[test]
fn a_hello_for_an_address_names_none_or_that_one() {
    assert_eq!(mismatch(&[], "192.0.2.1"), None);
    assert_eq!(mismatch(&[name("192.0.2.1")], "192.0.2.1"), None);
    assert_eq!(mismatch(&[name("192.0.2.2")], "192.0.2.1"), Some("sni-mismatch"));
    assert_eq!(mismatch(&[name("example.org")], "192.0.2.1"), Some("sni-mismatch"));
}

#[test]
fn hidden_names_are_told_even_when_the_open_one_is_right() {
    for kind in [ENCRYPTED_CLIENT_HELLO, 0xffce, 0xfe0a] {
        let hidden = (kind, vec![0; 40]);
        assert_eq!(mismatch(&[name("example.org"), hidden.clone()], "example.org"), Some("encrypted-client-hello"));
        assert_eq!(mismatch(&[hidden, name("example.org")], "example.org"), Some("encrypted-client-hello"));
    }
}

#[test]
fn what_says_two_things_is_refused() {
    let two = (NAME, names(&[(0, b"example.org"), (0, b"other.example")]));
    let twice = [name("example.org"), name("other.example")];
    assert_eq!(read(&records(&message(&[two]), 4000)), Err(Fault::Twice));
    assert_eq!(read(&records(&message(&twice), 4000)), Err(Fault::Twice));
    assert_eq!(read(&records(&message(&[(10, vec![]), (10, vec![])]), 4000)), Err(Fault::Twice));
}

#[test]
fn what_is_malformed_is_refused() {
    let good = message(&[name("example.org")]);
    let refused = |bytes: &[u8], fault| assert_eq!(read(bytes), Err(fault), "{bytes:?}");
    refused(b"\x15\x03\x01\x00\x02\x02\x28", Fault::Record);
    refused(b"\x16\x02", Fault::Record);
    refused(b"\x16\x03\x01\x00\x00", Fault::Malformed);
    refused(b"\x16\x03\x01\x40\x01", Fault::Malformed);
    refused(&records(&[2, 0, 0, 0], 4000), Fault::Message);
    refused(&records(&[1, 1, 0, 0], 4000), Fault::TooLong);
    // More in the record than the hello: together, or after it.
    refused(&records(&[&good[..], &[0]].concat(), 4000), Fault::Malformed);
    let mut longer = records(&good, 4000);
    longer[4] += 1;
    refused(&longer, Fault::Malformed);
    // An alert between two parts of it.
    let parts = [records(&good[..20], 4000), b"\x15\x03\x01\x00\x02\x01\x00".to_vec(), records(&good[20..], 4000)];
    refused(&parts.concat(), Fault::Record);
    for (kind, value) in [
        (NAME, vec![]),
        (NAME, names(&[])),
        (NAME, names(&[(0, b"")])),
        (NAME, names(&[(1, b"example.org")])),
        (NAME, [names(&[(0, b"example.org")]), vec![0]].concat()),
    ] {
        refused(&records(&message(&[(kind, value)]), 4000), Fault::Malformed);
    }
    for length in 0..good.len() - 4 {
        let mut cut = good[..4 + length].to_vec();
        cut[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        // The extensions may be missing as a whole.
        let without_extensions = length == 2 + 32 + 1 + 6 + 2;
        assert_eq!(read(&records(&cut, 4000)).is_ok(), without_extensions, "{length}");
    }
}

#[test]
fn hellos_of_ssl_2_are_told_from_lengths() {
    let hello = |version: [u8; 2], suites: u8, challenge: u8| {
        let mut bytes = vec![0x80, 9 + suites + challenge, 1, version[0], version[1], 0, suites, 0, 0, 0, challenge];
        bytes.extend(vec![0; usize::from(suites + challenge)]);
        bytes
    };
    assert!(is_ssl2(&hello([0, 2], 21, 16)));
    assert!(is_ssl2(&hello([3, 1], 3, 32)));
    assert!(!is_ssl2(&hello([2, 0], 21, 16)));
    assert!(!is_ssl2(&hello([3, 1], 4, 32)));
    assert!(!is_ssl2(&hello([3, 1], 3, 15)));
    assert!(!is_ssl2(&hello([3, 1], 3, 32)[..10]));
}

#[test]
fn no_bytes_do_harm_and_pieces_make_no_difference() {
    let (mut whole, mut agreed) = (0, 0);
    fuzz::run("client-hello", |bytes, number| {
        let at_once = fuzzing::client_hello(bytes, usize::try_from(number % 97).unwrap() + 1);
        whole += usize::from(matches!(at_once, Ok(Some(_))));
        // What is passed on as being for a name is for that name to others as well.
        if let (Ok(Some(hello)), Some(other)) = (at_once, named_by_rustls(bytes))
            && hello.mismatch(&example()).is_none()
        {
            assert!(other.eq_ignore_ascii_case("example.org"), "{other}: {}", bytes.escape_ascii());
            agreed += 1;
        }
    });
    assert!(whole > 500 && agreed > 500, "enough of them are still whole: {whole}, {agreed}");
}
