//! Files, and what they stand for.

use crate::attempt::{Attempt, ByEngine, attempt};

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt("read-only-source", "open('/usr/bin/env', 'ab').write(b'x')", "open('/tmp/x', 'ab').write(b'x')")
        .against_engine(ByEngine::Fixed("the file that would be written is this machine's"))
        .stays_inside()
        .unaudited(),
    attempt(
        "a-capability",
        "if 'CapEff:\\t0000000000000000' in open('/proc/self/status').read(): raise OSError('none are given')",
        "open('/tmp/y', 'w')",
    )
    .against_engine(ByEngine::Confinement)
    .stays_inside()
    .unaudited(),
    attempt("masked-proc", "open('/proc/kcore', 'rb').read(1)", "open('/proc/self/status').read(1)")
        .against_engine(ByEngine::Fixed("the memory that would be read is this machine's"))
        .stays_inside()
        .unaudited(),
    attempt("sysrq", "open('/proc/sysrq-trigger', 'w').write('h')", "open('/proc/self/comm', 'w').write('x')")
        .against_engine(ByEngine::Fixed("the machine that would be told is this one"))
        .stays_inside()
        .unaudited(),
    attempt(
        "planted-device",
        "usable('/srv/shared'); open('/srv/shared/zero', 'rb').read(1)",
        "open('/dev/zero', 'rb').read(1); open('/srv/shared/file').read(1)",
    )
    .against_engine(ByEngine::Confinement)
    .stays_inside()
    .unaudited(),
    attempt(
        "resolv-conf",
        "writable('/etc/resolv.conf'); open('/etc/resolv.conf', 'a').write('x')",
        "open('/etc/resolv.conf').read(1)",
    )
    .against_engine(ByEngine::Confinement)
    .stays_inside()
    .unaudited(),
    attempt(
        "hosts",
        "writable('/etc/hosts'); open('/etc/hosts', 'a').write('198.51.100.1 x')",
        "open('/etc/hosts').read(1)",
    )
    .against_engine(ByEngine::Confinement)
    .stays_inside()
    .unaudited(),
];
