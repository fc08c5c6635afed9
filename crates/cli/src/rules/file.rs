//! Reads rules from a TOML file.

use super::keys::{
    Address, Block, Challenge, HeaderText, Method, Name, Operation, Pair, PathPrefix, Redirect,
    Text, Wait,
};
use super::rule::{Conditions, Effects, Phase, Rule};
use crate::exit::UsageError;
use memchr::memmem::Finder;
use serde::Deserialize;
use std::fs;
use std::ops::Range;
use std::path::Path;
use tollgate::{HeaderOp, response::AuditMetadata};
use toml::Spanned;

/// Reads a file of rules.
pub(crate) fn read(file: &Path) -> Result<Vec<Rule>, UsageError> {
    let name = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| UsageError(format!("cannot read rules {name}: {error}")))?;
    parse(&text).map_err(|refused| {
        let Refused { span, reason } = refused;
        let line = span.map(|span| line_of(&text, span.start));
        let line = line.map_or_else(String::new, |line| format!(" line {line}:"));
        UsageError(format!("{name}:{line} {reason}"))
    })
}

/// Parses the text of a file of rules.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, Refused> {
    let File { rule } = toml::from_str(text)?;
    rule.into_iter().map(Entry::into_rule).collect()
}

/// Reason why a file is not accepted.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) span: Option<Range<usize>>,
    pub(super) reason: String,
}

impl From<toml::de::Error> for Refused {
    fn from(error: toml::de::Error) -> Self {
        Self {
            span: error.span(),
            reason: error.message().to_owned(),
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Entry>,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    on: Phase,
    path: Option<PathPrefix>,
    method: Option<Method>,
    client_ip: Option<Address>,
    header: Option<HeaderText>,
    body_contains: Option<Spanned<Text>>,
    #[serde(default)]
    hold: bool,
    block: Option<Spanned<Block>>,
    redirect: Option<Spanned<Redirect>>,
    challenge: Option<Spanned<Challenge>>,
    #[serde(default)]
    set_request_headers: Vec<Pair>,
    #[serde(default)]
    add_request_headers: Vec<Pair>,
    #[serde(default)]
    remove_request_headers: Vec<Name>,
    #[serde(default)]
    set_response_headers: Vec<Pair>,
    #[serde(default)]
    add_response_headers: Vec<Pair>,
    #[serde(default)]
    remove_response_headers: Vec<Name>,
    #[serde(default)]
    operations: Vec<Operation>,
    replace_body: Option<Spanned<String>>,
    drop_body: Option<Spanned<bool>>,
    #[serde(default)]
    delay: Wait,
    #[serde(default)]
    panic: bool,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    rule_ids: Vec<String>,
}

impl Entry {
    fn into_rule(mut self) -> Result<Rule, Refused> {
        self.refuse_contradictions()?;
        let mut effects = Effects {
            request_headers: changes(
                self.set_request_headers,
                self.add_request_headers,
                self.remove_request_headers,
            ),
            response_headers: changes(
                self.set_response_headers,
                self.add_response_headers,
                self.remove_response_headers,
            ),
            body: self.replace_body.map(|content| content.into_inner().into()),
            delay: self.delay.0,
            panics: self.panic,
            audit: AuditMetadata {
                tags: self.tags,
                rule_ids: self.rule_ids,
                ..AuditMetadata::default()
            },
            verdict: None,
        };
        let operations = self.operations.into_iter().map(|operation| operation.0);
        if self.on.is_of_request() {
            effects.request_headers.extend(operations);
        } else {
            effects.response_headers.extend(operations);
        }
        if self.drop_body.is_some_and(Spanned::into_inner) {
            effects.body = Some(Default::default());
        }
        if let Some(block) = self.block.take() {
            let (verdict, more_headers) = block.into_inner().into_verdict();
            effects.verdict = Some(verdict);
            effects.response_headers.extend(more_headers);
        }
        let redirect = self.redirect.map(|it| it.into_inner().into_verdict());
        let challenge = self.challenge.map(|it| it.into_inner().into_verdict());
        effects.verdict = effects.verdict.or(redirect).or(challenge);
        Ok(Rule {
            on: self.on,
            conditions: Conditions {
                paths: self.path.map(|path| path.0).into_iter().collect(),
                method: self.method.map(|method| method.0),
                client_ip: self.client_ip.map(|address| address.0),
                header: self.header.map(Into::into),
                body_contains: self
                    .body_contains
                    .map(|text| Finder::new(&text.into_inner().0).into_owned()),
            },
            hold: self.hold,
            is_of_option: false,
            effects,
        })
    }

    fn refuse_contradictions(&self) -> Result<(), Refused> {
        let mut verdicts = [
            self.block.as_ref().map(Spanned::span),
            self.redirect.as_ref().map(Spanned::span),
            self.challenge.as_ref().map(Spanned::span),
        ]
        .into_iter()
        .flatten();
        if let (Some(first), Some(second)) = (verdicts.next(), verdicts.next()) {
            let later = if first.start > second.start {
                first
            } else {
                second
            };
            let reason = "a rule has at most one of `block`, `redirect` and `challenge`";
            return Err(refused(later, reason));
        }
        let text = self.body_contains.as_ref().map(Spanned::span);
        let replaced = self.replace_body.as_ref().map(Spanned::span);
        let dropped = self.drop_body.as_ref().filter(|it| *it.as_ref());
        let dropped = dropped.map(Spanned::span);
        for (name, span) in [
            ("body_contains", &text),
            ("replace_body", &replaced),
            ("drop_body", &dropped),
        ] {
            if let Some(span) = span
                && !self.on.is_body()
            {
                let reason = "needs `on = \"request_body\"` or `on = \"response_body\"`";
                return Err(refused(span.clone(), &format!("`{name}` {reason}")));
            }
        }
        match (replaced, dropped) {
            (Some(_), Some(span)) => Err(refused(
                span,
                "a rule has at most one of `replace_body` and `drop_body`",
            )),
            _ => Ok(()),
        }
    }
}

fn refused(span: Range<usize>, reason: &str) -> Refused {
    Refused {
        span: Some(span),
        reason: reason.to_owned(),
    }
}

fn changes(set: Vec<Pair>, add: Vec<Pair>, remove: Vec<Name>) -> Vec<HeaderOp> {
    let set = set.into_iter().map(Pair::set);
    let add = add.into_iter().map(Pair::add);
    let remove = remove
        .into_iter()
        .map(|Name(name)| HeaderOp::Remove { name });
    set.chain(add).chain(remove).collect()
}
