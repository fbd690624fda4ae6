//! Other processes of a measurement: this program in another role, and the servers it is compared with.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::wait_for;

/// A process that ends with this value.
pub struct Process(Child);

impl Process {
    /// Starts `program`; what it says goes nowhere.
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let started = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(started.unwrap_or_else(|error| panic!("{}: {error}", program.display())))
    }

    /// This very program in the role `arguments` names.
    pub fn role(arguments: &[&str]) -> Self {
        Self::start(&std::env::current_exe().expect("the path of this program"), arguments)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The processor time it and its threads have used.
    pub fn processor_time(&self) -> Duration {
        processor_time(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processor time that a process has used, to hundredths of a second.
pub fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// A port of loopback that nobody uses now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("it is bound").port()
}

/// Waits until something accepts connections there.
pub fn wait_for_port(what: &str, port: u16) {
    wait_for(what, Duration::from_secs(20), || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
}
