//! Names of variables.

/// Longest name of a variable, in bytes, that HAProxy takes with its scope and the prefix
/// `tollgate`.
pub const MAX_VARIABLE_NAME: usize = 63 - "txn.tollgate.".len();

/// Most values of one header that are added by the name of the header.
pub const MAX_ADDED: usize = 4;

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

/// Returns the beginning of the name of the variable for one of the values that are added to a
/// header, counted from 1: `req_add_`, `req_add2_`, and so on up to [`MAX_ADDED`].
///
/// ```
/// assert_eq!(tollgate_haproxy::added_kind("req", 1), "req_add_");
/// assert_eq!(tollgate_haproxy::added_kind("req", 2), "req_add2_");
/// ```
pub fn added_kind(message: &str, number: usize) -> String {
    match number {
        1 => format!("{message}_add_"),
        _ => format!("{message}_add{number}_"),
    }
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
