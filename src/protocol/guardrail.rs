//! Findings of guardrail agents.

use super::wire_forms::wire_forms;
use crate::configuration::setters;
use serde::{Deserialize, Serialize};

/// Kind of inspection that a guardrail agent performs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardrailInspectionType {
    /// Search for instructions that were injected into a prompt.
    PromptInjection,
    /// Search for personally identifiable information.
    PiiDetection,
}

wire_forms! {
    GuardrailInspectionType: as_str -> &'static str, from_wire(name: &str) {
        PromptInjection = "prompt_injection",
        PiiDetection = "pii_detection",
    }
}

/// Findings of a guardrail agent, carried in
/// [`AuditMetadata::custom`](super::AuditMetadata::custom).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GuardrailResponse {
    /// Set if anything was found.
    pub detected: bool,
    /// Confidence of the agent, from 0.0 to 1.0.
    #[serde(default)]
    pub confidence: f64,
    /// Individual findings.
    #[serde(default)]
    pub detections: Vec<GuardrailDetection>,
    /// The inspected content with the findings removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_content: Option<String>,
}

impl GuardrailResponse {
    /// Creates a response without findings.
    pub fn clean() -> Self {
        Self::default()
    }

    /// Creates a response with one finding. Its confidence is that of the finding, or 1.0 if that
    /// has none.
    pub fn with_detection(detection: GuardrailDetection) -> Self {
        Self {
            detected: true,
            confidence: detection.confidence.unwrap_or(1.0),
            detections: vec![detection],
            redacted_content: None,
        }
    }

    /// Adds a finding. The confidence becomes the highest of all findings.
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
    /// Category of the finding.
    pub category: String,
    /// Human-readable description.
    pub description: String,
    /// Severity; medium by default.
    #[serde(default)]
    pub severity: DetectionSeverity,
    /// Confidence of the agent, from 0.0 to 1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Position in the inspected content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<TextSpan>,
}

impl GuardrailDetection {
    /// Creates a finding of medium severity, without confidence and position.
    pub fn new(category: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            category: category.into(),
            description: description.into(),
            severity: DetectionSeverity::Medium,
            confidence: None,
            span: None,
        }
    }

    setters! {
        /// Sets the severity.
        with_severity(self, severity: DetectionSeverity) => self.severity = severity;

        /// Sets the confidence, from 0.0 to 1.0.
        with_confidence(self, confidence: f64) => self.confidence = Some(confidence);

        /// Sets the position in the content: the first byte, and one past the last byte.
        with_span(self, start: usize, end: usize) => self.span = Some(TextSpan { start, end });
    }
}

/// A range of bytes in inspected content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSpan {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset one past the last byte.
    pub end: usize,
}

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectionSeverity {
    /// To be noted.
    Low,
    /// To be looked at.
    #[default]
    Medium,
    /// Action is advised.
    High,
    /// Action is required.
    Critical,
}
