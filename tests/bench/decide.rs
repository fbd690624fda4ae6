//! P10: compiling a policy of many rules, and single decisions by it. That a decision allocates nothing is counted by a
//! test (`egress/tests/allocations.rs`), not measured here.

use std::hint::black_box;
use std::time::Duration;

use egress::compiled::Compiled;
use egress::verdict::{Question, Request, Transport};
use jiff::civil::date;
use schema::policy::{Host, Policy, PortRange, RequestPath, Rule};

use crate::Scale;
use crate::report::{Report, Row};
use crate::stopwatch::{Times, in_turns, time};

/// Decisions timed together: one alone is shorter than the clock is exact.
const TOGETHER: u32 = 100_000;

/// Rules about as many hosts, as wide fleets have them; the hosts of the questions are spread over all of them.
pub fn ten_thousand_rules(scale: &Scale, report: &mut Report) {
    let rules = if scale.smoke { 100 } else { 10_000 };
    let policy = policy(rules);
    let compiled = Compiled::new(&policy);
    let (today, together) = (date(2026, 6, 15), if scale.smoke { 100 } else { TOGETHER });
    let named = hosts(rules, "example.org");
    let unknown = hosts(rules, "example.net");
    let path = RequestPath::parse("/repos/acme/api/issues").expect("a path");
    let connect = |hosts: &[Host]| {
        time(|| {
            for host in hosts.iter().cycle().take(together as usize) {
                let question = Question { host, port: 443, transport: Transport::Tcp };
                black_box(compiled.connect(black_box(question), today));
            }
        })
    };
    let request = || {
        time(|| {
            for host in named.iter().cycle().take(together as usize) {
                let question = Question { host, port: 443, transport: Transport::Tcp };
                let request = Request { method: "GET", path: &path, headers: &(), upgrade: false, tls: true };
                black_box(compiled.request(black_box(question), &request, today));
            }
        })
    };
    let [compile, allowed, denied, requests] = in_turns(
        scale.rounds(15),
        &mut [&mut || time(|| Compiled::new(&policy)), &mut || connect(&named), &mut || connect(&unknown), &mut || {
            request()
        }],
    );
    let limit = Duration::from_millis(50);
    let compiled_in = compile.median();
    let decision = |what: &str, times: &Times| {
        let one = times.median() / together;
        let ratio = one.as_secs_f64() / 1e-6;
        Row::new(rules, format!("{together} × {what}"), times).beside("1 µs each", ratio, "≤ 1 µs", ratio <= 1.0)
    };
    let rows = vec![
        Row::new(rules, "compile", &compile).beside(
            "50 ms",
            compiled_in.as_secs_f64() / limit.as_secs_f64(),
            "≤ 50 ms",
            compiled_in <= limit,
        ),
        decision("a connection that is allowed", &allowed),
        decision("a connection that is denied", &denied),
        decision("a request that is allowed", &requests),
    ];
    report.group("P10", "one decision by a policy of many rules", rows);
}

/// A third of the rules each for a name, for one label and for any depth; all about requests; some denied.
fn policy(rules: usize) -> Policy {
    let allow = (0..rules).map(|number| {
        let host = format!("{}host-{number}.example.org", ["", "*.", "**."][number % 3]);
        rule(&host, PortRange::WEB.to_vec(), &["GET", "HEAD"], &["/repos/**"])
    });
    let deny = (0..rules / 100).map(|number| {
        rule(&format!("host-{}.example.org", number * 100), PortRange::ALL.to_vec(), &["DELETE"], &["/**/admin/**"])
    });
    Policy { allow: allow.collect(), deny: deny.collect(), ..Policy::default() }
}

/// Hosts that the rules of the same numbers are about, if `below` is where those are.
fn hosts(rules: usize, below: &str) -> Vec<Host> {
    let name = |number: usize| format!("{}host-{number}.{below}", ["", "a.", "a.b."][number % 3]);
    // Each next one is far from the last, as questions come.
    (0..rules).map(|number| name(number * 7_919 % rules)).map(|name| name.parse().expect("a host")).collect()
}

fn rule(host: &str, ports: Vec<PortRange>, methods: &[&str], paths: &[&str]) -> Rule {
    Rule {
        ports,
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        paths: paths.iter().map(|path| path.parse().expect(path)).collect(),
        ..Rule::of(host.parse().expect(host))
    }
}
