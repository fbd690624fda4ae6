//! Names that were made to mean this machine.

use std::process::Command;

use super::elsewhere::Elsewhere;
use super::*;

fn dialer_of(own: &[&str]) -> Dialer {
    let own = own.iter().map(|network| network.parse().unwrap()).collect();
    let settings = DialSettings { name_servers: NameServers::Fixed(Vec::new()), ..DialSettings::default() };
    Dialer::new(DialSettings { interfaces: Interfaces::Fixed(own), ..settings })
}

#[track_caller]
fn is_refused_as_ours(error: &DialError) {
    let ours = matches!(error, DialError::Refused { range, .. } if range.kind == judge::Kind::Machine);
    assert!(ours, "{error:?}");
}

#[tokio::test]
async fn the_machine_is_not_reached_by_an_address_of_its_own() {
    let dialer = dialer_of(&["192.0.2.7/32", "2001:db8::7/128"]);
    for address in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
        let to_us = generation(mapped(&[address]));
        is_refused_as_ours(&dialer.dial(&to_us, &host("db.test"), 22, TODAY).await.unwrap_err());
        is_refused_as_ours(&dialer.dial_udp(&to_us, &host("db.test"), 22, TODAY).await.unwrap_err());
        is_refused_as_ours(&dialer.meaning(&to_us.policy, &name("db.test")).await.unwrap_err());
        // Another proxy may be on this machine.
        let proxied = Policy { upstream: Upstream::Http("127.0.0.1:1".into()), ..mapped(&[address]) };
        is_refused_as_ours(&dialer.dial(&generation(proxied), &host("db.test"), 22, TODAY).await.unwrap_err());
    }
    let wide = Rule { ports: vec![PortRange::one(22)], ..Rule::of("192.0.2.0/24".parse().unwrap()) };
    let literal = generation(Policy { allow: vec![wide], ..Policy::default() });
    is_refused_as_ours(&dialer.dial(&literal, &host("192.0.2.7"), 22, TODAY).await.unwrap_err());
    let error = dialer.dial(&generation(mapped(&["192.0.2.7"])), &host("db.test"), 22, TODAY).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "db.test leads to 192.0.2.7, which is an address of this machine (192.0.2.7/32); \
         `dial: { allowRanges: [192.0.2.7] }` would allow it"
    );
}

#[tokio::test]
async fn who_names_it_reaches_it_and_others_are_as_before() {
    let dialer = dialer_of(&["192.0.2.7/32"]);
    let named = Policy { dial_allow: vec!["192.0.2.7/32".parse().unwrap()], ..mapped(&["192.0.2.7"]) };
    assert_eq!(dialer.meaning(&named, &name("db.test")).await.unwrap().0, [IpAddr::from([192, 0, 2, 7])]);
    let beside = mapped(&["192.0.2.7", "192.0.2.8"]);
    assert_eq!(dialer.meaning(&beside, &name("db.test")).await.unwrap().0, [IpAddr::from([192, 0, 2, 8])]);
}

#[tokio::test]
async fn another_namespace_has_addresses_of_its_own() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let elsewhere = Elsewhere::start();
    let path = elsewhere.path();
    let add =
        namespace::within(&path, || Command::new("ip").args("address add 192.0.2.7/32 dev lo".split(' ')).status());
    assert!(add.await.unwrap().success());
    let listener = namespace::within(&path, || std::net::TcpListener::bind("192.0.2.7:0")).await.unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialer = dialer(Vec::new());
    let closed = Policy { upstream: Upstream::Netns(path), ..mapped(&["192.0.2.7"]) };
    is_refused_as_ours(&dialer.dial(&generation(closed.clone()), &host("db.test"), port, TODAY).await.unwrap_err());
    let open = Policy { dial_allow: vec!["192.0.2.7/32".parse().unwrap()], ..closed };
    let (open, db) = (generation(open), host("db.test"));
    let (dialled, accepted) = tokio::join!(dialer.dial(&open, &db, port, TODAY), listener.accept());
    assert_eq!(dialled.unwrap().stream.local_addr().unwrap(), accepted.unwrap().1);
}
