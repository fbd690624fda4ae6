//! Reads secrets from where the configuration says. Values live in memory that is cleared, and nowhere else.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use schema::config::SecretSource;
use secrecy::SecretSlice;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::{HostEnv, archive};
use crate::process_group::ProcessGroup;

/// Most bytes of a secret. The kernel takes no variable of more than 128 KiB, its name included.
pub const MOST_BYTES: usize = 127 * 1024;

/// Why a secret could not be read. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The file could not be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The command could not be started.
    #[error("cannot run `{program}`: {error}")]
    Start {
        /// Its first word.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// The command failed.
    #[error("`{program}` failed ({status}){said}")]
    Failed {
        /// Its first word.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said on standard error, after a colon.
        said: String,
    },
    /// The command did not end.
    #[error("`{program}` did not finish within {seconds} s")]
    TimedOut {
        /// Its first word.
        program: String,
        /// The deadline.
        seconds: u64,
    },
    /// There is nothing.
    #[error("the value is empty")]
    Empty,
    /// More than [`MOST_BYTES`].
    #[error("the value has more than {MOST_BYTES} bytes, the most that an environment variable can hold")]
    TooLong,
    /// It would end there.
    #[error("the value holds a NUL byte, which no environment variable can")]
    Nul,
}

/// The value of `source`, without the last newline of a command's output.
pub async fn read(source: &SecretSource, env: &HostEnv) -> Result<SecretSlice<u8>, SecretError> {
    let value = match source {
        SecretSource::Env(name) => {
            let value = env.env.get(OsStr::new(name)).ok_or_else(|| SecretError::Unset(name.clone()))?;
            value.as_bytes().to_vec()
        }
        SecretSource::File(path) => {
            let failed = |error| SecretError::File { path: path.display().to_string(), error };
            let mut value = Vec::new();
            let file = archive::open(path).map_err(failed)?;
            file.take(MOST_BYTES as u64 + 1).read_to_end(&mut value).map_err(failed)?;
            value
        }
        SecretSource::Command(words) => run(words, env).await?,
    };
    // From here on the memory is cleared when it goes.
    let value = SecretSlice::from(value);
    match secrecy::ExposeSecret::expose_secret(&value) {
        [] => Err(SecretError::Empty),
        bytes if bytes.len() > MOST_BYTES => Err(SecretError::TooLong),
        bytes if bytes.contains(&0) => Err(SecretError::Nul),
        _ => Ok(value),
    }
}

async fn run(words: &[String], env: &HostEnv) -> Result<Vec<u8>, SecretError> {
    let (program, args) = words.split_first().ok_or(SecretError::Empty)?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&env.env).kill_on_drop(true).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(identity) = &env.identity {
        // Supplementary groups go with the change of user.
        command.uid(identity.uid).gid(identity.gid);
    }
    let failed = |error| SecretError::Start { program: program.clone(), error };
    let mut child = command.spawn().map_err(failed)?;
    let group = ProcessGroup::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (value, said) = tokio::join!(take(stdout, MOST_BYTES as u64 + 2), take(stderr, 2000));
        Ok((child.wait().await.map_err(failed)?, value, said))
    };
    let Ok(result) = tokio::time::timeout(env.secret_deadline, work).await else {
        return Err(SecretError::TimedOut { program: program.clone(), seconds: env.secret_deadline.as_secs() });
    };
    let (status, mut value, said) = result?;
    group.ended();
    if !status.success() {
        let said: String = String::from_utf8_lossy(&said).chars().filter(|c| !c.is_control() || *c == '\n').collect();
        let said = said.trim().replace('\n', "; ");
        let said = if said.is_empty() { said } else { format!(": {said}") };
        return Err(SecretError::Failed { program: program.clone(), status, said });
    }
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    Ok(value)
}

async fn take(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could be read counts; the exit code tells whether it is all. Closing the pipe ends a babbler.
        let _ = pipe.take(most).read_to_end(&mut bytes).await;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn env(variables: &[(&str, &str)]) -> HostEnv {
        HostEnv {
            env: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            identity: None,
            runtime_dir: None,
            own: Vec::new(),
            lockfile: None,
            data: "/data".into(),
            init: "/init".into(),
            trust: "/trust".into(),
            cdi_dirs: Vec::new(),
            engine_sockets: Vec::new(),
            secret_deadline: Duration::from_secs(30),
        }
    }

    async fn command(script: &str) -> Result<String, String> {
        let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let value = read(&SecretSource::Command(words), &env(&[("PATH", "/usr/bin:/bin"), ("TOKEN", "t0k")])).await;
        let text = |value: SecretSlice<u8>| String::from_utf8_lossy(value.expose_secret()).into_owned();
        value.map(text).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn reads_every_source() {
        let variables = env(&[("TOKEN", "t0k")]);
        let value = read(&SecretSource::Env("TOKEN".into()), &variables).await.expect("set");
        assert_eq!(value.expose_secret(), b"t0k");
        let unset = read(&SecretSource::Env("OTHER".into()), &variables).await.expect_err("not set");
        assert_eq!(unset.to_string(), "the environment variable OTHER is not set");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("key"), "line\n").expect("written");
        let value = read(&SecretSource::File(dir.path().join("key")), &variables).await.expect("there");
        assert_eq!(value.expose_secret(), b"line\n");
        assert!(read(&SecretSource::File(dir.path().to_owned()), &variables).await.is_err());
    }

    #[tokio::test]
    async fn commands_give_their_output_without_the_last_newline() {
        assert_eq!(command("printf 'a\\nb\\n\\n'").await.as_deref(), Ok("a\nb\n"));
        assert_eq!(command("echo $TOKEN").await.as_deref(), Ok("t0k"));
        assert_eq!(command("true").await, Err("the value is empty".into()));
        let error = command("echo s3cret; echo locked >&2; exit 3").await.expect_err("failed");
        assert_eq!(error, "`/bin/sh` failed (exit status: 3): locked");
        let too_long = "the value has more than 130048 bytes, the most that an environment variable can hold";
        assert_eq!(command("head -c 600000 /dev/zero; true").await, Err(too_long.into()));
        let nul = "the value holds a NUL byte, which no environment variable can";
        assert_eq!(command("printf 'a\\0b'").await, Err(nul.into()));
    }

    #[tokio::test]
    async fn commands_that_hang_are_killed_with_all_they_started() {
        let mut env = env(&[("PATH", "/usr/bin:/bin")]);
        env.secret_deadline = Duration::from_millis(200);
        let words = ["/bin/sh", "-c", "sleep 1000 & sleep 1000"].map(str::to_owned).to_vec();
        let error = read(&SecretSource::Command(words), &env).await.expect_err("killed");
        assert!(error.to_string().contains("did not finish"), "{error}");
    }
}
