//! Sets variables of the transaction.

use crate::wire::{Action, Scope, Value, Writer};

/// Appends actions that set and remove variables of the transaction.
pub(super) struct Variables<'w, 'b> {
    out: &'w mut Writer<'b>,
}

impl<'w, 'b> Variables<'w, 'b> {
    pub(super) fn new(out: &'w mut Writer<'b>) -> Self {
        Self { out }
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: &str, value: Value<'_>) {
        let action = Action::SetVar {
            scope: Scope::Transaction,
            name: name.as_bytes(),
            value,
        };
        action.write(self.out);
    }

    /// Removes a variable, so that none is left of an earlier answer.
    pub(super) fn unset(&mut self, name: &str) {
        let action = Action::UnsetVar {
            scope: Scope::Transaction,
            name: name.as_bytes(),
        };
        action.write(self.out);
    }

    /// Sets a variable to the texts, joined by commas, unless there are none.
    pub(super) fn set_list(&mut self, name: &str, texts: &[String]) {
        if !texts.is_empty() {
            self.set(name, Value::from(texts.join(",").as_str()));
        }
    }
}
