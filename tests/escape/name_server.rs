//! A name server with fixed answers, for the world outside of sandboxes.

use std::net::{IpAddr, UdpSocket};

/// Answers questions for IPv4 addresses of `names` and of `aliases` of them until the process ends; everything else does
/// not exist. Every name that is asked for is told to `asked`.
pub fn serve(socket: &UdpSocket, names: &[(&str, IpAddr)], aliases: &[(&str, &str)], asked: impl Fn(&str)) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        if let Some(answer) = answer(&question[..length], names, aliases, &asked) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn answer(
    question: &[u8],
    names: &[(&str, IpAddr)],
    aliases: &[(&str, &str)],
    asked: &impl Fn(&str),
) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while *question.get(at)? != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes([*question.get(at + 1)?, *question.get(at + 2)?]);
    let name = labels.join(".");
    asked(&name);
    let find = |name: &str| names.iter().find(|(known, _)| *known == name).map(|(_, address)| *address);
    let alias = aliases.iter().find(|(known, _)| *known == name).map(|(_, target)| *target);
    let known = alias.is_some() || find(&name).is_some();
    let mut records = Vec::new();
    if kind == 1 {
        if let Some(target) = alias {
            let target_name = encoded(target)?;
            let mut record = vec![0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5];
            record.extend(u16::try_from(target_name.len()).ok()?.to_be_bytes());
            record.extend(&target_name);
            records.push(record);
            records.extend(find(target).and_then(|address| address_record(&target_name, address)));
        } else {
            // A pointer to the name in the question.
            records.extend(find(&name).and_then(|address| address_record(&[0xc0, 12], address)));
        }
    }
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::try_from(records.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question.get(12..end)?);
    answer.extend(records.concat());
    Some(answer)
}

fn encoded(name: &str) -> Option<Vec<u8>> {
    let mut encoded = Vec::new();
    for label in name.split('.') {
        encoded.push(u8::try_from(label.len()).ok()?);
        encoded.extend(label.as_bytes());
    }
    encoded.push(0);
    Some(encoded)
}

/// Nothing for IPv6, which the world does not have.
fn address_record(name: &[u8], address: IpAddr) -> Option<Vec<u8>> {
    let IpAddr::V4(address) = address else { return None };
    let mut record = name.to_vec();
    record.extend([0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
    record.extend(address.octets());
    Some(record)
}
