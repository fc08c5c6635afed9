use super::*;

#[test]
fn debug_output_omits_the_token() {
    let capabilities = AgentCapabilities::new("a", "A", "1");
    let request = RegistrationRequest::new("a", &capabilities, Some("secret"), &[]);
    assert!(!format!("{request:?}").contains("secret"));
}
