//! Through a stream of requests from one to the next, as [`super::guard`] does: for fuzzers and tests.

use super::chunked::Chunks;
use super::head::{After, Framing, Head, Malformed, check, end};

/// What a stream of requests comes to: how each of them starts and ends, and why it ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Where each head starts, and what it says.
    pub heads: Vec<(usize, Head)>,
    /// Where and why it is not read on.
    pub ended: Option<(usize, Malformed)>,
}

/// Walks through `bytes`, of which no more than `piece` arrive at once.
pub fn walk(bytes: &[u8], piece: usize) -> Walk {
    let mut walk = Walk::default();
    let mut start = 0;
    'requests: while start < bytes.len() {
        let (mut seen, mut arrived) = (0, 0);
        let head = loop {
            arrived = bytes.len().min((start + arrived).saturating_add(piece)) - start;
            let part = &bytes[start..start + arrived];
            match end(part, seen).and_then(|end| end.map(|end| check(&part[..end])).transpose()) {
                Ok(Some(head)) => break head,
                Ok(None) if start + arrived == bytes.len() => break 'requests,
                Ok(None) => seen = arrived,
                Err(malformed) => {
                    walk.ended = Some((start, malformed));
                    break 'requests;
                }
            }
        };
        walk.heads.push((start, head));
        start += head.length;
        if head.after != After::Request {
            break;
        }
        match head.framing {
            Framing::Length(length) => start = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)),
            Framing::Chunked => {
                let mut chunks = Chunks::default();
                while !chunks.ended() && start < bytes.len() {
                    match chunks.take(&bytes[start..bytes.len().min(start.saturating_add(piece))]) {
                        Ok(taken) => start += taken,
                        Err(malformed) => {
                            // Where exactly depends on how much was looked at.
                            walk.ended = Some((0, malformed));
                            break 'requests;
                        }
                    }
                }
            }
        }
    }
    walk
}
