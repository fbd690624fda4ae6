//! Connects to the first of several addresses that answers.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::select_all;

/// How long one address has before the next is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// Most attempts under way at once. Each has a socket, and whoever owns a name says how many addresses it has.
pub(crate) const AT_ONCE: usize = 3;

/// Most addresses that are tried: with a head start for each, the last ones still have most of the time there is.
pub(super) const MOST: usize = 16;

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

/// The first connection that is made. The others are given up, and so is the oldest where too many are under way: the last
/// ones have all the time there is.
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
    let mut attempts = VecDeque::with_capacity(AT_ONCE);
    let mut waiting = addresses.iter().copied();
    let mut first_failure = None;
    loop {
        if let Some(address) = waiting.next() {
            if attempts.len() == AT_ONCE {
                attempts.pop_front();
            }
            let attempt = connect(address);
            attempts.push_back(Box::pin(async move { attempt.await.map_err(|error| (address, error)) }));
        }
        if attempts.is_empty() {
            return Err(first_failure);
        }
        let ending = select_all(attempts.iter_mut());
        let (ended, index, _) = if waiting.len() > 0 {
            // Nothing yet: the next one joins in.
            let Ok(ended) = tokio::time::timeout(HEAD_START, ending).await else { continue };
            ended
        } else {
            ending.await
        };
        drop(attempts.remove(index));
        match ended {
            Ok(connected) => return Ok(connected),
            Err(failure) => first_failure = first_failure.or(Some(failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

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

    /// However many addresses a name has, and however long they all take.
    #[tokio::test(start_paused = true)]
    async fn few_are_under_way_at_once_and_the_last_ones_have_their_time() {
        let texts: Vec<String> = (1..=MOST).map(|last| format!("192.0.2.{last}")).collect();
        let addresses = sockets(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let (silent, last) = (Arc::new(()), addresses[MOST - 1]);
        let most = Mutex::new(0);
        let found = race(&addresses, |address| {
            let under_way = Arc::clone(&silent);
            let mut most = most.lock().unwrap();
            *most = (Arc::strong_count(&silent) - 1).max(*most);
            async move {
                if address != last {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_secs(10)).await;
                drop(under_way);
                Ok::<_, ()>(address)
            }
        })
        .await;
        assert_eq!(found, Ok(last));
        assert_eq!(*most.lock().unwrap(), AT_ONCE);
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
