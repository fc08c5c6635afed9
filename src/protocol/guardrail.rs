use serde::{Deserialize, Serialize};

/// What a guardrail agent looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardrailInspectionType {
    /// Instructions smuggled into a prompt.
    PromptInjection,
    /// Data about persons.
    PiiDetection,
}

impl GuardrailInspectionType {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PromptInjection => "prompt_injection",
            Self::PiiDetection => "pii_detection",
        }
    }

    /// The inspection with this name on the wire.
    pub fn from_wire(name: &str) -> Option<Self> {
        match name {
            "prompt_injection" => Some(Self::PromptInjection),
            "pii_detection" => Some(Self::PiiDetection),
            _ => None,
        }
    }
}

/// The findings of a guardrail agent, carried in [`AuditMetadata::custom`](super::AuditMetadata::custom).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GuardrailResponse {
    /// Whether anything was found.
    pub detected: bool,
    /// How sure the agent is, 0.0 to 1.0.
    #[serde(default)]
    pub confidence: f64,
    /// What was found.
    #[serde(default)]
    pub detections: Vec<GuardrailDetection>,
    /// The content with what was found taken out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_content: Option<String>,
}

impl GuardrailResponse {
    /// Nothing was found.
    pub fn clean() -> Self {
        Self::default()
    }

    /// One thing was found.
    pub fn with_detection(detection: GuardrailDetection) -> Self {
        Self {
            detected: true,
            confidence: detection.confidence.unwrap_or(1.0),
            detections: vec![detection],
            redacted_content: None,
        }
    }

    /// Adds a finding; the confidence becomes the highest of all.
    pub fn add_detection(&mut self, detection: GuardrailDetection) {
        self.detected = true;
        if let Some(confidence) = detection.confidence {
            self.confidence = self.confidence.max(confidence);
        }
        self.detections.push(detection);
    }
}

/// One finding of a guardrail agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardrailDetection {
    /// What kind of thing was found.
    pub category: String,
    /// What was found, for a person to read.
    pub description: String,
    /// How bad it is.
    #[serde(default)]
    pub severity: DetectionSeverity,
    /// How sure the agent is, 0.0 to 1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Where in the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<TextSpan>,
}

impl GuardrailDetection {
    /// A finding of medium severity.
    pub fn new(category: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            category: category.into(),
            description: description.into(),
            severity: DetectionSeverity::Medium,
            confidence: None,
            span: None,
        }
    }

    /// Sets how bad it is.
    #[must_use]
    pub fn with_severity(mut self, severity: DetectionSeverity) -> Self {
        self.severity = severity;
        self
    }

    /// Sets how sure the agent is.
    #[must_use]
    pub fn with_confidence(mut self, confidence: f64) -> Self {
        self.confidence = Some(confidence);
        self
    }

    /// Sets where in the content it stands.
    #[must_use]
    pub fn with_span(mut self, start: usize, end: usize) -> Self {
        self.span = Some(TextSpan { start, end });
        self
    }
}

/// A range of bytes in inspected content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSpan {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectionSeverity {
    /// Worth a note.
    Low,
    /// Worth a look.
    #[default]
    Medium,
    /// Should be acted on.
    High,
    /// Must be acted on.
    Critical,
}
