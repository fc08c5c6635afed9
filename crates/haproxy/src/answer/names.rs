//! Names of variables.

/// Longest name of a variable, in bytes, that HAProxy takes with its scope and the prefix
/// `tollgate`.
pub const MAX_VARIABLE_NAME: usize = 63 - "txn.tollgate.".len();

/// Appends a name as HAProxy takes it in variables: other characters become `_`.
pub(super) fn push_name(out: &mut String, name: &str) {
    out.extend(name.chars().map(|character| match character {
        'a'..='z' | '0'..='9' | '.' | '_' => character,
        'A'..='Z' => character.to_ascii_lowercase(),
        _ => '_',
    }));
}

/// Returns the name of the variable for a change to a header: `kind` and the name of the header in
/// the characters that HAProxy takes.
///
/// ```
/// assert_eq!(tollgate_haproxy::variable_name("req_set_", "X-User"), "req_set_x_user");
/// ```
pub fn variable_name(kind: &str, header: &str) -> String {
    let mut name = String::with_capacity(kind.len() + header.len());
    name.push_str(kind);
    push_name(&mut name, header);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_characters_of_variables() {
        assert_eq!(variable_name("req_set_", "X-User"), "req_set_x_user");
        assert_eq!(variable_name("res_del_", "a!b.c"), "res_del_a_b.c");
    }
}
