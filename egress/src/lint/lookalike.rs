//! Hosts that look like other hosts.

use std::collections::{BTreeMap, HashMap};

use schema::policy::{DnsName, HostPattern, Policy, Rule};

use super::{Finding, Kind};

/// Domains that code and agents reach often, which makes names near to them worth owning.
const KNOWN: &[&str] = &[
    "github.com",
    "githubusercontent.com",
    "gitlab.com",
    "bitbucket.org",
    "codeberg.org",
    "sr.ht",
    "pypi.org",
    "pythonhosted.org",
    "npmjs.org",
    "npmjs.com",
    "yarnpkg.com",
    "crates.io",
    "rust-lang.org",
    "golang.org",
    "rubygems.org",
    "packagist.org",
    "maven.org",
    "apache.org",
    "gradle.org",
    "nuget.org",
    "debian.org",
    "ubuntu.com",
    "alpinelinux.org",
    "archlinux.org",
    "fedoraproject.org",
    "docker.io",
    "docker.com",
    "quay.io",
    "ghcr.io",
    "gcr.io",
    "kubernetes.io",
    "nodejs.org",
    "python.org",
    "google.com",
    "googleapis.com",
    "gstatic.com",
    "microsoft.com",
    "windows.net",
    "azure.com",
    "live.com",
    "office.com",
    "apple.com",
    "icloud.com",
    "amazon.com",
    "amazonaws.com",
    "cloudflare.com",
    "anthropic.com",
    "openai.com",
    "huggingface.co",
    "slack.com",
    "atlassian.com",
    "atlassian.net",
    "sentry.io",
    "datadoghq.com",
    "stripe.com",
    "paypal.com",
    "letsencrypt.org",
    "stackoverflow.com",
    "wikipedia.org",
    "mozilla.org",
    "tailscale.com",
];

/// Domains this short are near to too many others.
const SHORTEST: usize = 6;

pub(super) fn find(policy: &Policy, findings: &mut Vec<Finding>) {
    let named = || policy.allow.iter().filter_map(|rule| Some((rule, name(rule)?)));
    // What each name looks like, with the first name that looks like that.
    let mut looks: HashMap<String, (&DnsName, Option<&Rule>)> = HashMap::new();
    let known: Vec<DnsName> = KNOWN.iter().filter_map(|domain| domain.parse().ok()).collect();
    for domain in &known {
        looks.insert(skeleton(domain), (domain, None));
    }
    let mut by_domain: BTreeMap<String, &Rule> = BTreeMap::new();
    for (rule, name) in named() {
        if let Some(label) = name.to_unicode().split('.').find(|label| mixes_scripts(label)) {
            let message = format!("`{label}` mixes letters of several scripts; on the wire it is `{name}`");
            let help = "write the name as it is on the wire (`xn--…`) if it is really meant";
            findings.push(Finding::new(Kind::Lookalike, rule, message, help));
            continue;
        }
        let (domain, look) = (domain(name), skeleton(name));
        let look_of_domain: String = skeleton_text(&domain);
        let known = looks.get(&look).or_else(|| looks.get(&look_of_domain).filter(|(_, rule)| rule.is_none())).copied();
        match known {
            Some((other, by)) if other != name && other.as_str() != domain => {
                let message = format!("`{}` looks like `{other}` and is not", shown(name));
                let finding = Finding::new(Kind::Lookalike, rule, message, "check which of them is meant");
                findings.push(match by {
                    Some(by) => finding.beside(by, "it looks like this one"),
                    None => finding,
                });
            }
            _ => {
                looks.entry(look).or_insert((name, Some(rule)));
                by_domain.entry(domain).or_insert(rule);
            }
        }
    }
    for (domain, rule) in by_domain {
        if KNOWN.contains(&domain.as_str()) || domain.len() < SHORTEST {
            continue;
        }
        if let Some(known) = KNOWN.iter().find(|known| known.len() >= SHORTEST && is_one_slip(&domain, known)) {
            let message = format!("`{domain}` is one slip away from `{known}`");
            findings.push(Finding::new(Kind::Lookalike, rule, message, "check which of them is meant"));
        }
    }
}

fn name(rule: &Rule) -> Option<&DnsName> {
    match &rule.host {
        HostPattern::Exact(name) | HostPattern::OneLabel(name) | HostPattern::AnyDepth(name) => Some(name),
        HostPattern::Any | HostPattern::Network(_) => None,
    }
}

/// The last two labels: near enough to what is registered.
fn domain(name: &DnsName) -> String {
    let mut labels: Vec<&str> = name.labels().rev().take(2).collect();
    labels.reverse();
    labels.join(".")
}

/// Both forms, where they differ.
fn shown(name: &DnsName) -> String {
    let unicode = name.to_unicode();
    if unicode == name.as_str() { unicode } else { format!("{unicode} ({name})") }
}

/// Whether the words are apart by one letter that is another, missing, too much, or in its neighbour's place.
fn is_one_slip(one: &str, other: &str) -> bool {
    let (long, short) = if one.len() >= other.len() { (one, other) } else { (other, one) };
    let begin = long.bytes().zip(short.bytes()).take_while(|(a, b)| a == b).count();
    match (&long.as_bytes()[begin..], &short.as_bytes()[begin..]) {
        ([_, long @ ..], short) if long == short => true,
        ([_, long @ ..], [_, short @ ..]) if long == short => true,
        ([a, b, long @ ..], [c, d, short @ ..]) => a == d && b == c && long == short,
        _ => false,
    }
}

/// Scripts that have letters looking like those of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
    Armenian,
    Cherokee,
}

fn script(c: char) -> Option<Script> {
    Some(match c {
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => Script::Latin,
        '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Script::Greek,
        '\u{400}'..='\u{52f}' | '\u{2de0}'..='\u{2dff}' | '\u{a640}'..='\u{a69f}' => Script::Cyrillic,
        '\u{530}'..='\u{58f}' => Script::Armenian,
        '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}' => Script::Cherokee,
        _ => return None,
    })
}

fn mixes_scripts(label: &str) -> bool {
    let mut scripts = label.chars().filter_map(script);
    let first = scripts.next();
    scripts.any(|script| Some(script) != first)
}

/// What a name looks like, to somebody who does not look closely.
fn skeleton(name: &DnsName) -> String {
    skeleton_text(&name.to_unicode())
}

fn skeleton_text(text: &str) -> String {
    let letters: String = text
        .chars()
        .map(|c| match c {
            'а' | 'ɑ' | 'α' | 'à' | 'á' | 'â' | 'ä' | 'å' | 'ã' | 'ā' => 'a',
            'с' | 'ϲ' | 'ç' | 'ć' | 'č' => 'c',
            'ԁ' | 'ɗ' => 'd',
            'е' | 'ҽ' | 'è' | 'é' | 'ê' | 'ë' | 'ē' => 'e',
            'ɡ' | 'ġ' | 'ğ' => 'g',
            'һ' | 'հ' => 'h',
            'і' | 'ї' | 'ι' | 'ì' | 'í' | 'î' | 'ï' | 'ı' | '1' | 'l' | 'ӏ' | 'ł' => 'i',
            'ј' => 'j',
            'к' | 'κ' => 'k',
            'ո' | 'ռ' | 'ñ' | 'ń' | 'η' => 'n',
            'о' | 'ο' | 'օ' | 'σ' | 'ò' | 'ó' | 'ô' | 'ö' | 'õ' | 'ø' | 'ō' | '0' => 'o',
            'р' | 'ρ' => 'p',
            'ԛ' => 'q',
            'г' => 'r',
            'ѕ' | 'ś' | 'š' | 'ş' => 's',
            'т' | 'τ' => 't',
            'υ' | 'ս' | 'ù' | 'ú' | 'û' | 'ü' => 'u',
            'ѵ' | 'ν' => 'v',
            'ԝ' | 'ѡ' => 'w',
            'х' | 'χ' => 'x',
            'у' | 'γ' | 'ý' | 'ÿ' => 'y',
            'ž' | 'ź' | 'ż' => 'z',
            c => c,
        })
        .collect();
    letters.replace("rn", "m").replace("vv", "w")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips() {
        let near = [
            "githab.com",
            "gihub.com",
            "githhub.com",
            "gtihub.com",
            "github.co",
            "xgithub.com",
            "github.com1",
            "github.cmo",
        ];
        for word in near {
            assert!(is_one_slip(word, "github.com") && is_one_slip("github.com", word), "{word}");
        }
        for word in ["github.com", "gitlab.com", "example.org", "", "giitub.co", "tgihub.cmo"] {
            assert!(!is_one_slip(word, "github.com") && !is_one_slip("github.com", word), "{word}");
        }
    }

    #[test]
    fn looks() {
        let look = |text: &str| skeleton(&text.parse().expect(text));
        assert_eq!(look("раураl.com"), look("paypal.com"));
        assert_eq!(look("paypa1.com"), look("paypal.com"));
        assert_eq!(look("rnicrosoft.com"), look("microsoft.com"));
        assert_ne!(look("example.org"), look("example.com"));
        assert!(
            mixes_scripts("раураl") && !mixes_scripts("paypal") && !mixes_scripts("пример") && !mixes_scripts("例え-a")
        );
    }
}
