//! Pipes through which bytes are moved without being looked at.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// What a pipe is asked to hold. The kernel grants every user a sum (`pipe-user-pages-soft`), beyond which pipes are smaller.
const CAPACITY: usize = 256 * 1024;

/// Pipes that are kept for the next connection, in each thread.
const KEPT: usize = 32;

thread_local! {
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe. When it is dropped empty, it is kept for another connection.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<(OwnedFd, OwnedFd)>,
    /// Bytes in it.
    held: usize,
}

impl Pipe {
    /// An empty one.
    pub fn get() -> io::Result<Self> {
        if let Some(idle) = IDLE.with_borrow_mut(Vec::pop) {
            return Ok(idle);
        }
        let ends = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller one does as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&ends.1, CAPACITY);
        Ok(Self { ends: Some(ends), held: 0 })
    }

    /// Bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes bytes from `socket`; 0 at its end. To be called on an empty pipe: a full one would block as well.
    pub fn fill(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let Some((_, into)) = &self.ends else { return Ok(0) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = again(|| rustix::pipe::splice(socket, None, into, None, CAPACITY, flags))?;
        self.held += moved;
        Ok(moved)
    }

    /// Gives bytes to `socket`.
    pub fn drain(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let Some((from, _)) = &self.ends else { return Ok(0) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = again(|| rustix::pipe::splice(from, None, socket, None, self.held, flags))?;
        self.held -= moved;
        Ok(moved)
    }
}

fn again(work: impl Fn() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match work() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        // Never may bytes of one connection come out of another: not only by our count, but by the kernel's as well.
        if self.held == 0 && rustix::io::ioctl_fionread(&ends.0).is_ok_and(|held| held == 0) {
            // The thread may be at its end.
            let _ = IDLE.try_with(|idle| {
                let mut idle = idle.borrow_mut();
                if idle.len() < KEPT {
                    idle.push(Self { ends: Some(ends), held: 0 });
                }
            });
        }
    }
}
