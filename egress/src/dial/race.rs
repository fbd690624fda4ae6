//! Connects to the first of several addresses that answers.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// How long one address has before the next is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// Puts addresses into the order in which they are tried: the families in turn, IPv6 first.
pub(super) fn order(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut six = addresses.iter().filter(|address| address.is_ipv6());
    let mut four = addresses.iter().filter(|address| address.is_ipv4());
    let mut ordered: Vec<IpAddr> = Vec::with_capacity(addresses.len());
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if !ordered.contains(address) {
                ordered.push(*address);
            }
        }
    }
}

/// The first connection that is made. The others are given up.
///
/// # Errors
/// What went wrong at the address that failed first; `None` where there is no address.
pub(super) async fn race<T, E, F>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Option<(SocketAddr, E)>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut attempts = FuturesUnordered::new();
    let mut waiting = addresses.iter().copied();
    let mut first_failure = None;
    loop {
        if let Some(address) = waiting.next() {
            let attempt = connect(address);
            attempts.push(async move { attempt.await.map_err(|error| (address, error)) });
        }
        let ended = if waiting.len() > 0 {
            // Nothing yet: the next one joins in.
            let Ok(ended) = tokio::time::timeout(HEAD_START, attempts.next()).await else { continue };
            ended
        } else {
            attempts.next().await
        };
        match ended {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(failure)) => first_failure = first_failure.or(Some(failure)),
            None => {}
        }
        if attempts.is_empty() && waiting.len() == 0 {
            return Err(first_failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn sockets(texts: &[&str]) -> Vec<SocketAddr> {
        ips(texts).into_iter().map(|address| SocketAddr::new(address, 1)).collect()
    }

    #[test]
    fn families_take_turns() {
        let given = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3", "2001:db8::1"]);
        assert_eq!(order(&given), ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]));
        assert!(order(&[]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_a_head_start_and_a_refusing_one_nothing() {
        let addresses = sockets(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let begun = tokio::time::Instant::now();
        let tried = Mutex::new(Vec::new());
        let found = race(&addresses, |address| {
            tried.lock().unwrap().push(address);
            let nth = tried.lock().unwrap().len();
            async move {
                match nth {
                    1 => std::future::pending().await,
                    2 => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                    _ => Ok(address),
                }
            }
        })
        .await;
        assert_eq!(found.ok(), Some(addresses[2]));
        assert_eq!(*tried.lock().unwrap(), addresses);
        assert_eq!(begun.elapsed(), HEAD_START);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_still_wins_when_the_others_fail() {
        let addresses = sockets(&["192.0.2.1", "192.0.2.2"]);
        let slow = addresses[0];
        let found = race(&addresses, |address| async move {
            if address == slow {
                tokio::time::sleep(Duration::from_secs(3)).await;
                return Ok(address);
            }
            Err(io::Error::from(io::ErrorKind::ConnectionRefused))
        })
        .await;
        assert_eq!(found.ok(), Some(slow));
    }

    #[tokio::test]
    async fn the_first_failure_is_told() {
        let addresses = sockets(&["192.0.2.1", "192.0.2.2"]);
        let found: Result<(), _> = race(&addresses, |address| async move { Err(address.to_string()) }).await;
        assert_eq!(found, Err(Some((addresses[0], addresses[0].to_string()))));
        let nowhere: Result<(), Option<(_, ())>> = race(&[], |_| std::future::pending()).await;
        assert_eq!(nowhere, Err(None));
    }
}
