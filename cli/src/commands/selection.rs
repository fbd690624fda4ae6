//! Options that `plan`, `apply` and `diff` share.

use std::collections::BTreeSet;

use reconciler::plan::Plan;
use schema::Config;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::saved_plan::Wishes;

/// What is planned beyond the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Selection {
    /// Only this sandbox and what it needs; may be given several times
    #[arg(long = "target", value_name = "SANDBOX", add = super::completion::sandboxes())]
    pub target: Vec<String>,
    /// Make this sandbox anew; may be given several times
    #[arg(long = "replace", value_name = "SANDBOX", add = super::completion::sandboxes())]
    pub replace: Vec<String>,
    /// Consent to a loss the plan names, for instance container/api; may be given several times
    #[arg(long = "accept-loss", value_name = "RESOURCE")]
    pub accept_loss: Vec<String>,
    /// Refuse images whose digest is not in sandboxes.lock
    #[arg(long)]
    pub locked: bool,
}

impl Selection {
    /// As they are saved with a plan.
    pub fn wishes(&self) -> Wishes {
        Wishes {
            targets: self.target.iter().cloned().collect(),
            replace: self.replace.iter().cloned().collect(),
            accepted: self.accept_loss.iter().cloned().collect(),
            ..Wishes::default()
        }
    }

    /// Refuses names that are not in the file. What is to be destroyed may have left it already: [`owned`] looks at that.
    pub fn check(&self, config: &Config, destroy: bool) -> Result<(), Failure> {
        let targets = self.target.iter().filter(|_| !destroy);
        for name in targets.chain(&self.replace) {
            known(config, name)?;
        }
        Ok(())
    }
}

/// Refuses a target that is neither in the file nor, with anything, in the plan of its removal.
pub fn owned(config: &Config, plan: &Plan, targets: &BTreeSet<String>) -> Result<(), Failure> {
    let there = |name: &String| plan.changes.iter().any(|change| change.sandbox.as_ref() == Some(name));
    targets.iter().filter(|name| !there(name)).try_for_each(|name| known(config, name))
}

/// Refuses a name that is not a sandbox of `config`, with the one that was probably meant.
pub fn known(config: &Config, name: &str) -> Result<(), Failure> {
    let names = || config.sandboxes.keys().map(schema::Name::as_str);
    if names().any(|known| known == name) {
        return Ok(());
    }
    let help = match schema::did_you_mean(name, names()) {
        Some(meant) => format!("did you mean {meant}?"),
        None if config.sandboxes.is_empty() => String::from("the configuration has no sandboxes"),
        None => format!("the sandboxes are: {}", names().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("there is no sandbox {} in project {}", crate::render::text::safe(name), config.project);
    Err(Failure::new(Exit::Usage, "sbx::unknown-sandbox", message).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::config;
    use crate::render::sample;

    #[test]
    fn what_is_destroyed_is_in_the_file_or_on_the_engine() {
        let config = config("sandboxes:\n  api: { image: host }\n  web: { image: host }\n");
        let mut plan = sample::plan();
        plan.changes.truncate(1);
        plan.changes[0].sandbox = Some("gone".into());
        let check = |name: &str| owned(&config, &plan, &BTreeSet::from([name.to_owned()]));
        check("web").expect("it is in the file, with nothing of it left");
        check("gone").expect("it has left the file, and something of it is left");
        let failure = check("wbe").expect_err("nobody knows it");
        assert_eq!((failure.exit, failure.help.as_deref()), (Exit::Usage, Some("did you mean web?")));
    }
}
