//! The event that asks for an inspection of text.

use super::forms::owned_and_borrowed;
use crate::protocol::GuardrailInspectionType;

macro_rules! guardrail_inspect {
    ($define:ident) => {
        $define! {
            /// Text to be inspected
            GuardrailInspect, GuardrailInspectEvent {
                /// Id that joins all events of one HTTP request.
                correlation_id: str = 1,
                /// Kind of inspection.
                inspection_type: GuardrailInspectionType = 1000
                    or GuardrailInspectionType::PromptInjection,
                /// Text to inspect.
                content: str = 2,
                /// Language model that the text is meant for.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                model: (Option<str>) = 4,
                /// Categories to look for; empty for all.
                #[serde(default)]
                categories: [str] = 1001,
                /// Id of the proxy's route.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                route_id: (Option<str>) = 1002,
                /// Additional values by name.
                #[serde(default)]
                metadata: {str: str} = 1003,
            }
        }
    };
}

guardrail_inspect!(owned_and_borrowed);

pub(crate) use guardrail_inspect;
